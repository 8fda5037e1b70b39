//! Encryption at rest: which resources are sealed before they reach the disk, and with which keys.
//!
//! XChaCha20-Poly1305 with a random nonce for each value: its 192 bits make a repetition impossible in practice, so
//! nothing has to be counted. The object's key and version are the associated data: a value moved to another object
//! does not open. Several keys may be given: the first seals, all open; values that are not sealed with the first
//! are sealed again at the next start (`disk`).

use crate::object::Key;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::TryRngCore;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 24;
/// Bytes of a key's id.
pub(crate) const KEY_ID_BYTES: usize = 8;
/// Most keys in a ring; rotation needs two.
const KEYS_MAX: usize = 16;

/// Names a key without telling it: the first bytes of a hash of it, printed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; KEY_ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text gives no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A line is no key.
    #[error(
        "line {line} is not a key: it must be 32 bytes in base64, such as `head -c 32 /dev/urandom | base64` prints"
    )]
    NotAKey {
        /// The line, counted from 1.
        line: usize,
    },
    /// There is none.
    #[error("there is no key in it: give one key a line, 32 bytes in base64, the one that writes first")]
    Empty,
    /// There are too many.
    #[error("there are more than {KEYS_MAX} keys; remove those that nothing is encrypted with any more")]
    TooMany,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key: {0}")]
    Random(String),
}

/// Keys by their ids. The first seals, all open.
#[derive(Clone)]
pub struct Keyring {
    keys: Arc<Vec<(KeyId, XChaCha20Poly1305)>>,
}

impl Keyring {
    /// Reads keys, one a line, in base64; `#` begins a comment. Commas separate keys as well as line ends do, for an
    /// environment variable.
    ///
    /// # Errors
    /// See [`KeyError`]. No message contains a part of a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (index, line) in text.split(['\n', ',']).enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let bytes = STANDARD.decode(line).ok();
            let key: Option<[u8; KEY_BYTES]> = bytes.and_then(|bytes| bytes.try_into().ok());
            let key = key.ok_or(KeyError::NotAKey { line: index + 1 })?;
            keys.push((id(&key), XChaCha20Poly1305::new(&key.into())));
        }
        match keys.len() {
            0 => Err(KeyError::Empty),
            1..=KEYS_MAX => Ok(Self { keys: Arc::new(keys) }),
            _ => Err(KeyError::TooMany),
        }
    }

    /// The text of a new random key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<String, KeyError> {
        let mut key = [0; KEY_BYTES];
        rand::rngs::OsRng
            .try_fill_bytes(&mut key)
            .map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(STANDARD.encode(key))
    }

    /// The ids of the keys; the first is that of the key that seals.
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(|(id, _)| *id).collect()
    }

    /// The id of the key that seals.
    pub(crate) fn sealing(&self) -> Option<KeyId> {
        self.keys.first().map(|(id, _)| *id)
    }

    /// Seals `plain`: key id, nonce, ciphertext with its tag. `None` only when the system gives no random bytes.
    pub(crate) fn seal(&self, associated: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let (id, cipher) = self.keys.first()?;
        let mut nonce = [0; NONCE_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut nonce).ok()?;
        let payload = Payload {
            msg: plain,
            aad: associated,
        };
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&id.0[..], &nonce, &sealed].concat())
    }

    /// What `sealed` holds, and the id of the key that it is sealed with.
    pub(crate) fn unseal(&self, associated: &[u8], sealed: &[u8]) -> Result<(KeyId, Vec<u8>), Unsealed> {
        let (id, rest) = sealed
            .split_first_chunk::<KEY_ID_BYTES>()
            .ok_or(Unsealed::Damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unsealed::Damaged)?;
        let id = KeyId(*id);
        let (_, cipher) = self
            .keys
            .iter()
            .find(|(known, _)| *known == id)
            .ok_or(Unsealed::UnknownKey(id))?;
        let payload = Payload {
            msg: text,
            aad: associated,
        };
        let plain = cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| Unsealed::Damaged)?;
        Ok((id, plain))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.ids()).finish()
    }
}

impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        self.ids() == other.ids()
    }
}

impl Eq for Keyring {}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsealed {
    /// It is not what was sealed, or was sealed for another object.
    Damaged,
    /// No key of this id was given.
    UnknownKey(KeyId),
}

/// What is sealed, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The keys.
    pub keys: Keyring,
    /// Resources whose objects are sealed, by [`Key::resource`], such as `secrets`.
    pub resources: BTreeSet<String>,
}

impl Encryption {
    /// Seals Secrets with these keys.
    #[must_use]
    pub fn of_secrets(keys: Keyring) -> Self {
        Self {
            keys,
            resources: BTreeSet::from(["secrets".to_owned()]),
        }
    }

    pub(crate) fn covers(&self, key: &Key) -> bool {
        self.resources.contains(&*key.resource)
    }
}

fn id(key: &[u8; KEY_BYTES]) -> KeyId {
    let hash = Sha256::new()
        .chain_update(b"kittiwake key id")
        .chain_update(key)
        .finalize();
    let mut id = [0; KEY_ID_BYTES];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    KeyId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; KEY_BYTES])
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = Keyring::parse(&key(1)).unwrap();
        let both = Keyring::parse(&format!("# new\n{}\n{} # old\n", key(2), key(1))).unwrap();
        let sealed = old.seal(b"a", b"text").unwrap();
        assert_eq!(both.unseal(b"a", &sealed), Ok((old.ids()[0], b"text".to_vec())));
        let sealed = both.seal(b"a", b"text").unwrap();
        assert_eq!(
            old.unseal(b"a", &sealed),
            Err(Unsealed::UnknownKey(both.ids()[0]))
        );
        assert_ne!(
            both.seal(b"a", b"text"),
            both.seal(b"a", b"text"),
            "nonces differ"
        );
    }

    #[test]
    fn a_value_opens_only_where_it_was_sealed_and_unchanged() {
        let keys = Keyring::parse(&key(1)).unwrap();
        let sealed = keys.seal(b"a", b"text").unwrap();
        assert_eq!(keys.unseal(b"b", &sealed), Err(Unsealed::Damaged));
        for place in KEY_ID_BYTES..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[place] ^= 1;
            assert_eq!(
                keys.unseal(b"a", &flipped),
                Err(Unsealed::Damaged),
                "byte {place}"
            );
        }
        for length in 0..sealed.len() {
            assert!(keys.unseal(b"a", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line_and_never_shown() {
        for (text, wanted) in [
            ("", KeyError::Empty),
            ("# nothing\n\n", KeyError::Empty),
            ("\nc2VjcmV0", KeyError::NotAKey { line: 2 }),
            ("not base64!", KeyError::NotAKey { line: 1 }),
        ] {
            assert_eq!(Keyring::parse(text), Err(wanted), "{text:?}");
        }
        assert_eq!(
            Keyring::parse(&vec![key(1); KEYS_MAX + 1].join(",")),
            Err(KeyError::TooMany)
        );
        let ring = Keyring::parse(&Keyring::generate().unwrap()).unwrap();
        assert_eq!(format!("{ring:?}").len(), "Keyring([])".len() + 2 * KEY_ID_BYTES);
    }
}
