//! One object as it is written to the disk and into backups: plain or sealed, with a digest of its own.
//!
//! ```text
//! form (1 byte: 0 plain, 1 sealed) | JSON, or key id (8) nonce (24) ciphertext and tag | digest (16)
//! ```
//!
//! The digest covers the object's key and version as well: a page that the database took for sound (it checks pages
//! when the file is opened, but not what it reads and writes again later) cannot pass off one object as another.
//! It covers what is written, not what is meant: a digest of a secret would help to guess it.

use crate::encryption::{Encryption, KeyId, Unsealed};
use crate::object::Key;
use sha2::{Digest, Sha256};

const PLAIN: u8 = 0;
const SEALED: u8 = 1;
/// Bytes of a record's digest: the first of SHA-256.
const DIGEST_BYTES: usize = 16;

/// What a record holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) json: Vec<u8>,
    /// The key that it is sealed with; `None` when it is plain.
    pub(crate) sealed_with: Option<KeyId>,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not what was written.
    Damaged,
    /// It is sealed with a key that was not given.
    UnknownKey(KeyId),
}

/// Writes an object. `None` only when it is to be sealed and the system gives no random bytes.
pub(crate) fn encode(
    encryption: Option<&Encryption>,
    key: &Key,
    version: u64,
    json: &[u8],
) -> Option<Vec<u8>> {
    let place = place(key, version);
    let mut record = match encryption.filter(|encryption| encryption.covers(key)) {
        Some(encryption) => {
            let mut record = vec![SEALED];
            record.extend(encryption.keys.seal(&place, json)?);
            record
        }
        None => {
            let mut record = Vec::with_capacity(1 + json.len() + DIGEST_BYTES);
            record.push(PLAIN);
            record.extend(json);
            record
        }
    };
    let digest = digest(&place, &record);
    record.extend(digest);
    Some(record)
}

/// Whether a record is what was written for this key and version; needs no key to open it.
pub(crate) fn verify(key: &Key, version: u64, record: &[u8]) -> Result<(), Unreadable> {
    let (content, found) = record
        .split_last_chunk::<DIGEST_BYTES>()
        .ok_or(Unreadable::Damaged)?;
    if digest(&place(key, version), content) == *found {
        Ok(())
    } else {
        Err(Unreadable::Damaged)
    }
}

/// The key that a record says to be sealed with.
pub(crate) fn sealed_with(record: &[u8]) -> Option<KeyId> {
    match record.split_first()? {
        (&SEALED, rest) => rest.first_chunk().map(|id| KeyId(*id)),
        _ => None,
    }
}

/// Reads a record.
pub(crate) fn decode(
    encryption: Option<&Encryption>,
    key: &Key,
    version: u64,
    record: &[u8],
) -> Result<Decoded, Unreadable> {
    verify(key, version, record)?;
    let content = record
        .split_last_chunk::<DIGEST_BYTES>()
        .ok_or(Unreadable::Damaged)?
        .0;
    match content.split_first() {
        Some((&PLAIN, json)) => Ok(Decoded {
            json: json.to_vec(),
            sealed_with: None,
        }),
        Some((&SEALED, sealed)) => {
            let unknown = || sealed_with(record).map_or(Unreadable::Damaged, Unreadable::UnknownKey);
            let keys = &encryption.ok_or_else(unknown)?.keys;
            match keys.unseal(&place(key, version), sealed) {
                Ok((id, json)) => Ok(Decoded {
                    json,
                    sealed_with: Some(id),
                }),
                Err(Unsealed::UnknownKey(id)) => Err(Unreadable::UnknownKey(id)),
                Err(Unsealed::Damaged) => Err(Unreadable::Damaged),
            }
        }
        _ => Err(Unreadable::Damaged),
    }
}

/// Whether a record would be written differently today: plain instead of sealed, or sealed with an older key.
pub(crate) fn is_stale(encryption: Option<&Encryption>, key: &Key, sealed_with: Option<KeyId>) -> bool {
    let wanted = encryption.filter(|encryption| encryption.covers(key));
    sealed_with != wanted.and_then(|encryption| encryption.keys.sealing())
}

/// An object's key and version as bytes that nothing else has.
fn place(key: &Key, version: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [&key.resource, &key.namespace, &key.name] {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes.extend(version.to_le_bytes());
    bytes
}

fn digest(place: &[u8], content: &[u8]) -> [u8; DIGEST_BYTES] {
    let hash = Sha256::new().chain_update(place).chain_update(content).finalize();
    let mut digest = [0; DIGEST_BYTES];
    digest.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    digest
}

/// Which objects there are, in which versions, as two numbers that change with every write. Damage that takes an
/// object away, or brings an older one back, leaves every record sound; these numbers it cannot leave as they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) objects: u64,
    /// The hashes of all keys and versions, combined by exclusive or.
    pub(crate) sum: u64,
}

impl Census {
    /// An object appears.
    pub(crate) fn add(&mut self, key: &Key, version: u64) {
        self.objects = self.objects.wrapping_add(1);
        self.sum ^= hash(key, version);
    }

    /// An object goes.
    pub(crate) fn remove(&mut self, key: &Key, version: u64) {
        self.objects = self.objects.wrapping_sub(1);
        self.sum ^= hash(key, version);
    }
}

fn hash(key: &Key, version: u64) -> u64 {
    let digest = digest(&place(key, version), b"census");
    digest
        .first_chunk()
        .map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::Keyring;

    fn encryption() -> Encryption {
        Encryption::of_secrets(Keyring::parse(&Keyring::generate().unwrap()).unwrap())
    }

    #[test]
    fn secrets_are_sealed_and_others_are_not() {
        let encryption = encryption();
        for (resource, sealed) in [("secrets", true), ("configmaps", false)] {
            let key = Key::new(resource, "default", "a");
            let record = encode(Some(&encryption), &key, 7, b"{\"a\":1}").unwrap();
            let decoded = decode(Some(&encryption), &key, 7, &record).unwrap();
            assert_eq!(decoded.json, b"{\"a\":1}");
            assert_eq!(decoded.sealed_with.is_some(), sealed);
            assert_eq!(sealed_with(&record), decoded.sealed_with);
            assert!(!is_stale(Some(&encryption), &key, decoded.sealed_with));
            assert_eq!(is_stale(None, &key, decoded.sealed_with), sealed);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_place_is_noticed() {
        let encryption = encryption();
        for resource in ["secrets", "configmaps"] {
            let key = Key::new(resource, "default", "a");
            let record = encode(Some(&encryption), &key, 7, b"{\"a\":1}").unwrap();
            for bit in 0..record.len() * 8 {
                let mut flipped = record.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    decode(Some(&encryption), &key, 7, &flipped),
                    Err(Unreadable::Damaged),
                    "bit {bit}"
                );
            }
            for length in 0..record.len() {
                assert!(verify(&key, 7, &record[..length]).is_err());
            }
            for (other, version) in [
                (Key::new(resource, "default", "b"), 7),
                (Key::new(resource, "defaul", "ta"), 7),
                (key.clone(), 8),
            ] {
                assert_eq!(
                    decode(Some(&encryption), &other, version, &record),
                    Err(Unreadable::Damaged)
                );
            }
        }
    }

    #[test]
    fn a_missing_key_is_told_apart_from_damage() {
        let key = Key::new("secrets", "default", "a");
        let written_with = encryption();
        let record = encode(Some(&written_with), &key, 7, b"{}").unwrap();
        let id = written_with.keys.ids()[0];
        assert_eq!(decode(None, &key, 7, &record), Err(Unreadable::UnknownKey(id)));
        assert_eq!(
            decode(Some(&encryption()), &key, 7, &record),
            Err(Unreadable::UnknownKey(id))
        );
    }

    #[test]
    fn the_census_sees_what_is_missing_or_old() {
        let (a, b) = (Key::new("x", "", "a"), Key::new("x", "", "b"));
        let mut census = Census::default();
        census.add(&a, 1);
        census.add(&b, 2);
        let both = census;
        census.remove(&a, 1);
        census.add(&a, 3);
        assert_ne!(census, both);
        census.remove(&a, 3);
        census.remove(&b, 2);
        assert_eq!(census, Census::default());
    }
}
