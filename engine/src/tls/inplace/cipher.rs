//! One direction's key, and the count of the records it has protected.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::super::RecordError;
use super::record::Header;

/// Bytes that protection adds behind the content. The same for all suites of TLS 1.3 used here.
pub(super) const TAG_SIZE: usize = 16;

pub(super) struct Cipher {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Cipher {
    /// `sequence` is the number of records that the secrets have protected before.
    pub(super) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, RecordError> {
        use ConnectionTrafficSecrets as Secrets;
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match &secrets {
            Secrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            Secrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            Secrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(unusable()),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| unusable())?,
            sequence,
        })
    }

    /// Records protected with this key so far.
    pub(super) fn records(&self) -> u64 {
        self.sequence
    }

    /// Encrypts `inner` in place; the tag goes behind it.
    pub(super) fn seal(
        &mut self,
        header: Header,
        inner: &mut [u8],
    ) -> Result<[u8; TAG_SIZE], RecordError> {
        let nonce = self.next_nonce()?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header.encode()), inner)
            .map_err(|_| RecordError::KeysUsedUp)?;
        tag.as_ref().try_into().map_err(|_| unusable())
    }

    /// Encrypts `content`, and its type behind it, to `sealed`, which is as large as they and the
    /// tag.
    pub(super) fn seal_from(
        &mut self,
        header: Header,
        content: &[u8],
        content_type: u8,
        sealed: &mut [u8],
    ) -> Result<(), RecordError> {
        let nonce = self.next_nonce()?;
        let (sealed, behind) = sealed.split_at_mut(content.len());
        self.key
            .seal_out_of_place_scatter(
                nonce,
                Aad::from(header.encode()),
                content,
                sealed,
                &[content_type],
                behind,
            )
            .map_err(|_| RecordError::KeysUsedUp)
    }

    /// Decrypts `content` (with its tag) in place and returns the size of what it protected.
    pub(super) fn open(
        &mut self,
        header: Header,
        content: &mut [u8],
    ) -> Result<usize, RecordError> {
        let nonce = self.next_nonce()?;
        self.key
            .open_in_place(nonce, Aad::from(header.encode()), content)
            .map(|inner| inner.len())
            .map_err(|_| RecordError::BadRecord)
    }

    #[cfg(test)]
    pub(super) fn pretend(&mut self, records: u64) {
        self.sequence = records;
    }

    /// RFC 8446 §5.3: the 64-bit sequence number, in network byte order and padded to the left
    /// with zeros to the size of the IV, is XORed with the IV.
    fn next_nonce(&mut self) -> Result<Nonce, RecordError> {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[NONCE_LEN - 8..]
            .iter_mut()
            .zip(self.sequence.to_be_bytes())
        {
            *byte ^= sequence;
        }
        // RFC 8446 §5.3: sequence numbers MUST NOT be allowed to wrap.
        self.sequence = self
            .sequence
            .checked_add(1)
            .ok_or(RecordError::KeysUsedUp)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

fn unusable() -> RecordError {
    RecordError::Library(rustls::Error::General(
        "the traffic keys do not fit the cipher suite".into(),
    ))
}
