//! Access tokens: how they are made, and the hashes that are all that is kept of them.
//!
//! ```text
//! q3mJ0vYb1hXk9T2c.uY5n0R…43 characters
//! └ routing key ─┘ └ 256 random bits ──┘
//! ```
//!
//! The routing key is derived from the tunnel id, so both sides of a tunnel share it: a load balancer
//! that hashes the first 16 characters sends both to the same relay, without knowing any secret. Its
//! 96 bits also find the tunnel; whether the token is good, only the hash of all of it decides.

use std::fmt;

use adit_proto::{AccessToken, ClientToken, TunnelId};
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// The public front of a tunnel's tokens: 16 characters of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutingKey([u8; ROUTING_KEY_SIZE]);

impl RoutingKey {
    /// The routing key of this tunnel.
    pub fn of(tunnel: &TunnelId) -> Self {
        let hash = sha256(&[b"adit routing key\0", tunnel.as_str().as_bytes()]);
        let mut key = [0; ROUTING_KEY_SIZE];
        URL_SAFE_NO_PAD
            .encode_slice(&hash[..ROUTING_KEY_SIZE / 4 * 3], &mut key)
            .expect("12 bytes are 16 characters");
        Self(key)
    }

    /// The routing key in front of a presented token; `None` when it cannot be one of ours.
    pub fn in_front_of(token: &AccessToken) -> Option<Self> {
        let bytes = token.expose().as_bytes();
        if bytes.len() != TOKEN_SIZE || bytes[ROUTING_KEY_SIZE] != SEPARATOR {
            return None;
        }
        bytes.first_chunk().copied().map(Self)
    }

    /// From the text of a stored one.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let bytes: [u8; ROUTING_KEY_SIZE] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(allowed).then_some(Self(bytes))
    }

    /// The 16 characters.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64url is ASCII")
    }
}

/// SHA-256 of an access token. Equality takes the same time wherever the difference is; `Debug` does not
/// print it.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

impl TokenHash {
    /// The hash that is stored in place of the token.
    pub fn of(token: &AccessToken) -> Self {
        Self(sha256(&[token.expose().as_bytes()]))
    }

    /// Compares in constant time, without turning the answer into a branch.
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// Of no token that anybody could find.
    pub(crate) const NONE: Self = Self([0; 32]);

    /// For the store only.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From a stored one; `None` unless it is 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From the base64url of older stores.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        hash_from_text(text).map(Self)
    }
}

/// SHA-256 of a client token; a key of maps, where the hash hides what the comparison's time tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientTokenHash([u8; 32]);

impl ClientTokenHash {
    /// The hash that is stored in place of the client token.
    pub fn of(token: &ClientToken) -> Self {
        Self(sha256(&[token.expose().as_bytes()]))
    }

    /// For the store only.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From a stored one; `None` unless it is 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From the base64url of older stores.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        hash_from_text(text).map(Self)
    }
}

/// A new token for a tunnel with this routing key.
///
/// # Errors
/// When the system has no randomness to give.
pub fn mint(routing_key: RoutingKey) -> Result<AccessToken, getrandom::Error> {
    let mut random = Zeroizing::new([0; RANDOM_SIZE]);
    getrandom::fill(&mut *random)?;
    let mut text = String::with_capacity(TOKEN_SIZE);
    text.push_str(routing_key.as_str());
    text.push(char::from(SEPARATOR));
    URL_SAFE_NO_PAD.encode_string(*random, &mut text);
    Ok(AccessToken::new(text).expect("printable ASCII of 60 characters"))
}

fn hash_from_text(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let digest = context.finish();
    *digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

const ROUTING_KEY_SIZE: usize = 16;
/// Not in the alphabet of base64url, so that a load balancer can split at it.
const SEPARATOR: u8 = b'.';
/// 256 bits.
const RANDOM_SIZE: usize = 32;
const TOKEN_SIZE: usize = ROUTING_KEY_SIZE + 1 + (RANDOM_SIZE * 4).div_ceil(3);
/// A widespread device agent cuts tokens off at 1,023 characters (control-plane specification, 5).
const _: () = assert!(TOKEN_SIZE == 60);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tunnel(id: &str) -> TunnelId {
        id.parse().unwrap()
    }

    #[test]
    fn tokens_of_one_tunnel_share_their_front_and_nothing_else() {
        let key = RoutingKey::of(&tunnel("t-1"));
        let tokens: HashSet<String> = (0..100)
            .map(|_| mint(key).unwrap().expose().to_owned())
            .collect();
        assert_eq!(tokens.len(), 100);
        for token in &tokens {
            assert_eq!(token.len(), 60);
            assert!(token.starts_with(key.as_str()));
            let random = URL_SAFE_NO_PAD.decode(&token[17..]).unwrap();
            assert_eq!(random.len() * 8, 256);
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            assert!(
                token.chars().all(allowed),
                "fits a header, a cookie and a shell"
            );
        }
        assert_ne!(key, RoutingKey::of(&tunnel("t-2")));
    }

    #[test]
    fn the_routing_key_is_the_same_for_ever() {
        // Load balancers and stored tokens depend on it: SHA-256("adit routing key\0t-1")[..12].
        let expected = aws_lc_rs::digest::digest(&SHA256, b"adit routing key\0t-1");
        let expected = URL_SAFE_NO_PAD.encode(&expected.as_ref()[..12]);
        assert_eq!(RoutingKey::of(&tunnel("t-1")).as_str(), expected);
    }

    #[test]
    fn only_tokens_of_our_shape_have_a_routing_key() {
        let key = RoutingKey::of(&tunnel("t"));
        let token = mint(key).unwrap();
        assert_eq!(RoutingKey::in_front_of(&token), Some(key));
        let text = token.expose();
        for other in [
            &text[..59],
            &format!("{text}x"),
            &text.replacen('.', "x", 1),
            "x",
        ] {
            let token = AccessToken::new(other.to_owned()).unwrap();
            assert_eq!(RoutingKey::in_front_of(&token), None, "{other}");
        }
    }

    #[test]
    fn one_changed_bit_is_another_token() {
        let token = mint(RoutingKey::of(&tunnel("t"))).unwrap();
        let hash = TokenHash::of(&token);
        assert!(bool::from(hash.matches(&TokenHash::of(&token))));
        for index in 0..TOKEN_SIZE {
            let mut bytes = token.expose().as_bytes().to_vec();
            bytes[index] ^= 1;
            let Ok(other) = AccessToken::new(String::from_utf8(bytes).unwrap()) else {
                continue;
            };
            assert!(!bool::from(hash.matches(&TokenHash::of(&other))), "{index}");
        }
    }
}
