//! The keys that Secrets are encrypted with on the disk: from a file, from the environment, or made on the first start.

use anyhow::{Context, bail};
use kittiwake_store::{Encryption, Keyring};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Keys themselves, one or several with commas between; for secret stores that fill environments.
pub const KEY_VARIABLE: &str = "KITTIWAKE_ENCRYPTION_KEY";
/// The file in the data directory, where nothing else is said.
const KEY_FILE: &str = "encryption.key";
/// Longest file that is read as keys, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// The file with the keys of a data directory, where nothing else is said.
#[must_use]
pub fn default_file(data_dir: &Path) -> PathBuf {
    data_dir.join(KEY_FILE)
}

/// The keys that were given, or that are in the data directory; `None` where there are none yet.
///
/// # Errors
/// When a file that was named cannot be read, when what was given is no key, or when keys were given twice.
pub fn find(data_dir: &Path, file: Option<&Path>) -> anyhow::Result<Option<Encryption>> {
    let variable = std::env::var_os(KEY_VARIABLE).filter(|text| !text.is_empty());
    if let Some(text) = variable {
        if file.is_some() {
            bail!("keys come from {KEY_VARIABLE} and from --encryption-key-file; give one of them");
        }
        let text = text
            .to_str()
            .with_context(|| format!("{KEY_VARIABLE} is no text"))?;
        let keys = Keyring::parse(text).with_context(|| KEY_VARIABLE.to_owned())?;
        return Ok(Some(Encryption::of_secrets(keys)));
    }
    let path = file.map_or_else(|| default_file(data_dir), Path::to_owned);
    match read(&path) {
        Ok(text) => {
            let keys =
                Keyring::parse(&text).with_context(|| format!("encryption key file {}", path.display()))?;
            Ok(Some(Encryption::of_secrets(keys)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "--encryption-key-file {} does not exist; make one with:  (umask 077; head -c 32 /dev/urandom | base64 > {0})",
            path.display()
        ),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the encryption key file {}", path.display()))
        }
    }
}

/// The keys for a server. On the first start a key is made and kept in the data directory; never where objects are
/// encrypted with another one already.
///
/// # Errors
/// As [`find`]; and when the file with the keys of what is there is missing.
pub fn find_or_make(data_dir: &Path, file: Option<&Path>, objects: &Path) -> anyhow::Result<Encryption> {
    if let Some(encryption) = find(data_dir, file)? {
        return Ok(encryption);
    }
    let path = default_file(data_dir);
    if objects.try_exists().unwrap_or(true) {
        let checked = kittiwake_store::check(objects, None).context("cannot open the objects")?;
        if let Some((id, _)) = checked.encrypted.first_key_value() {
            bail!(
                "{} holds objects that are encrypted with key {id}, but {} is missing; put it back, or name another file with \
                 --encryption-key-file",
                objects.display(),
                path.display()
            );
        }
    }
    let key = Keyring::generate()?;
    make(&path, &key).with_context(|| format!("cannot write the encryption key file {}", path.display()))?;
    Ok(Encryption::of_secrets(Keyring::parse(&key)?))
}

fn read(path: &Path) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is too large for a file of keys"));
    }
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others can read the encryption keys; chmod 600 the file");
    }
    std::fs::read_to_string(path)
}

/// Writes a new key, durably: what is encrypted with a key that a power cut takes away is lost.
fn make(path: &Path, key: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(
        file,
        "# Secrets are encrypted with the first key; all keys are tried for reading. Keep a copy apart from backups.\n{key}"
    )?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let objects = folder.path().join("objects.redb");
        let made = find_or_make(folder.path(), None, &objects).unwrap();
        let mode = std::fs::metadata(default_file(folder.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = find_or_make(folder.path(), None, &objects).unwrap();
        assert_eq!(again, made);
        assert_eq!(find(folder.path(), None).unwrap(), Some(made));
    }

    #[test]
    fn a_lost_key_is_not_replaced_silently() {
        let folder = tempfile::tempdir().unwrap();
        let objects = folder.path().join("objects.redb");
        let encryption = find_or_make(folder.path(), None, &objects).unwrap();
        let id = encryption.keys.ids()[0].to_string();
        let config = kittiwake_store::Config {
            encryption: Some(std::sync::Arc::new(encryption)),
            ..kittiwake_store::Config::default()
        };
        let store = kittiwake_store::ObjectStore::open(&objects, config).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let change = kittiwake_store::Change::Put(serde_json::json!({}));
        let key = kittiwake_store::Key::new("secrets", "default", "a");
        runtime
            .block_on(store.write(key, |_| Ok::<_, ()>((change, ()))))
            .unwrap();
        store.close();
        std::fs::remove_file(default_file(folder.path())).unwrap();
        let error = find_or_make(folder.path(), None, &objects)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&id) && error.contains("encryption.key is missing"),
            "{error}"
        );
        assert!(!default_file(folder.path()).exists());
    }

    #[test]
    fn files_that_hold_no_keys_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let error = find(folder.path(), Some(&path)).unwrap_err().to_string();
        assert!(
            error.contains("does not exist") && error.contains("/dev/urandom"),
            "{error}"
        );
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = format!("{:#}", find(folder.path(), Some(&path)).unwrap_err());
        assert!(error.contains("keys: line 1 is not a key"), "{error}");
    }
}
