//! Sealing what waits for a device: whoever reads the store's file alone finds no token in it.

use std::fmt;
use std::path::PathBuf;

use adit_proto::TunnelId;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::data_dir::{DataDir, DataDirError};
use crate::tunnels::ThingName;

/// AES-256-GCM under one key.
///
/// A sealed message is `nonce (12 bytes) · ciphertext · tag (16 bytes)`, bound to its device and tunnel:
/// moved to another row of the store, it does not open. Nonces are random; a key is good for 2^32
/// messages, which is 136 years at one a second.
pub struct Sealer {
    key: RandomizedNonceKey,
    check: KeyCheck,
}

/// Tells whether two keys are the same, and nothing else about them: a MAC of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCheck([u8; 32]);

impl KeyCheck {
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Sealer {
    /// A key for this process only.
    pub fn in_memory() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; KEY_SIZE]);
        getrandom::fill(&mut *key)?;
        Ok(Self::with_key(&key))
    }

    /// The key of this directory (`notify.key`, mode 0600), made when there is none.
    ///
    /// # Errors
    /// A file that others may read, or that is damaged.
    pub fn in_dir(dir: &DataDir) -> Result<Self, SealError> {
        if let Some(text) = dir.read_secret(NOTIFY_KEY)? {
            let mut key = Zeroizing::new([0; KEY_SIZE]);
            let size = STANDARD.decode_slice(text.trim(), &mut *key);
            if size != Ok(KEY_SIZE) {
                let reason = "it should hold 32 bytes in base64; restore it, or move it away: messages \
                              that wait for devices are then lost, and rotation sends new ones";
                return Err(DataDirError::damaged(&dir.file(NOTIFY_KEY), reason.to_owned()).into());
            }
            return Ok(Self::with_key(&key));
        }
        let mut key = Zeroizing::new([0; KEY_SIZE]);
        getrandom::fill(&mut *key)?;
        let mut text = Zeroizing::new(String::with_capacity(64));
        STANDARD.encode_string(*key, &mut text);
        text.push('\n');
        dir.write(NOTIFY_KEY, text.as_bytes(), 0o600)?;
        Ok(Self::with_key(&key))
    }

    /// What nodes that share a store compare: what one of them seals, all have to open.
    pub fn check(&self) -> KeyCheck {
        self.check
    }

    /// Seals a payload for this device and tunnel.
    pub fn seal(&self, thing: &ThingName, tunnel: &TunnelId, payload: &[u8]) -> Box<[u8]> {
        let mut body = Zeroizing::new(Vec::with_capacity(payload.len() + TAG_SIZE));
        body.extend_from_slice(payload);
        let nonce = self
            .key
            .seal_in_place_append_tag(context(thing, tunnel), &mut *body)
            .expect("a payload is far smaller than AES-GCM's limit");
        let nonce: &[u8; NONCE_SIZE] = nonce.as_ref();
        [&nonce[..], &body[..]].concat().into_boxed_slice()
    }

    /// Opens what [`seal`](Self::seal) made with the same key, device and tunnel; `None` otherwise.
    pub fn open(
        &self,
        thing: &ThingName,
        tunnel: &TunnelId,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_SIZE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let size = self
            .key
            .open_in_place(nonce, context(thing, tunnel), &mut body)
            .ok()?
            .len();
        body.truncate(size);
        Some(body)
    }

    fn with_key(key: &[u8; KEY_SIZE]) -> Self {
        let check = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), CHECKED);
        Self {
            key: RandomizedNonceKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"),
            check: KeyCheck(check.as_ref().try_into().expect("SHA-256 has 32 bytes")),
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The file could not be read, written or trusted.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The system gives no random numbers.
    #[error("no randomness for the notification key: {0}")]
    Randomness(#[from] getrandom::Error),
    /// Devices at this node would never hear of tunnels that are opened at the others.
    #[error(
        "{} is not the key of the nodes that share this store; copy notify.key from the data directory of \
         one that runs, or if none does, start again in 15 s",
        .0.display()
    )]
    OtherKey(PathBuf),
}

/// A zero byte is in no thing's name, so the two cannot run into each other.
fn context(thing: &ThingName, tunnel: &TunnelId) -> Aad<Vec<u8>> {
    let parts = [thing.as_str(), tunnel.as_str()];
    Aad::from(parts.join("\0").into_bytes())
}

pub(crate) const NOTIFY_KEY: &str = "notify.key";
const CHECKED: &[u8] = b"adit notify.key";
const KEY_SIZE: usize = 32;
const NONCE_SIZE: usize = 12;
const TAG_SIZE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(name: &str) -> ThingName {
        ThingName::new(name).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_for_its_device_and_tunnel_only() {
        let sealer = Sealer::in_memory().unwrap();
        let (one, other) = ("t-1".parse().unwrap(), "t-2".parse().unwrap());
        let sealed = sealer.seal(&thing("a"), &one, b"secret");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        let opened = sealer.open(&thing("a"), &one, &sealed).unwrap();
        assert_eq!(&opened[..], b"secret");
        assert!(sealer.open(&thing("b"), &one, &sealed).is_none());
        assert!(sealer.open(&thing("a"), &other, &sealed).is_none());
        let stranger = Sealer::in_memory().unwrap();
        assert!(stranger.open(&thing("a"), &one, &sealed).is_none());
        for index in 0..sealed.len() {
            let mut damaged = sealed.to_vec();
            damaged[index] ^= 1;
            assert!(sealer.open(&thing("a"), &one, &damaged).is_none());
            assert!(sealer.open(&thing("a"), &one, &sealed[..index]).is_none());
        }
    }

    #[test]
    fn a_directory_keeps_its_key_and_a_damaged_one_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let tunnel = "t".parse().unwrap();
        let sealed = Sealer::in_dir(&dir)
            .unwrap()
            .seal(&thing("a"), &tunnel, b"x");
        let again = Sealer::in_dir(&dir).unwrap();
        assert!(again.open(&thing("a"), &tunnel, &sealed).is_some());
        assert_eq!(again.check(), Sealer::in_dir(&dir).unwrap().check());
        assert_ne!(again.check(), Sealer::in_memory().unwrap().check());
        dir.write(NOTIFY_KEY, b"c2hvcnQ=\n", 0o600).unwrap();
        let text = Sealer::in_dir(&dir).unwrap_err().to_string();
        assert!(text.contains("notify.key is damaged") && text.contains("move it away"));
    }
}
