//! Static tokens: a file of lines `token,user,uid,"group1,group2"`
//! (k8s.io/apiserver/pkg/authentication/token/tokenfile).

use super::identity::Identity;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The users of a token file. Tokens are kept as digests: a lookup tells nothing about them by its time.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenFile {
    users: HashMap<[u8; 32], Identity>,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenFile({} tokens)", self.users.len())
    }
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is too large, or a line is malformed; the message names the line and shows no token.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the token file {}: {error}", path.display());
        let size = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
        if size > FILE_BYTES_MAX {
            return Err(wrong(&format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        Self::parse(&text).map_err(|error| wrong(&error))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// When a line has fewer than three columns, no token or no user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        let mut lines = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        for record in lines.records() {
            let record = record.map_err(|_| "it is not comma-separated text".to_owned())?;
            let line = record.position().map_or(0, csv::Position::line);
            let (Some(token), Some(name), Some(uid)) = (record.get(0), record.get(1), record.get(2)) else {
                return Err(format!(
                    "line {line} has fewer than three columns; write token,user,uid,\"group1,group2\""
                ));
            };
            if token.is_empty() || name.is_empty() {
                return Err(format!("line {line} has an empty token or user"));
            }
            let groups = record.get(3).unwrap_or_default().split(',').map(str::trim);
            let identity = Identity {
                name: name.to_owned(),
                uid: uid.to_owned(),
                groups: groups
                    .filter(|group| !group.is_empty())
                    .map(str::to_owned)
                    .collect(),
                ..Identity::default()
            };
            if users.insert(digest(token), identity).is_some() {
                return Err(format!("line {line} has a token that another line has too"));
            }
        }
        Ok(Self { users })
    }

    /// Whose token it is.
    pub(crate) fn find(&self, token: &str) -> Option<Identity> {
        if self.users.is_empty() {
            return None;
        }
        self.users.get(&digest(token)).cloned()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_users_with_groups() {
        let file = TokenFile::parse("s3cret,ann,1,\"dev, ops\"\nother,bob,2\n").unwrap();
        let ann = file.find("s3cret").unwrap();
        assert_eq!((ann.name.as_str(), ann.uid.as_str()), ("ann", "1"));
        assert_eq!(ann.groups, ["dev", "ops"]);
        assert!(file.find("other").unwrap().groups.is_empty());
        assert_eq!(file.find("nobody"), None);
        assert!(!format!("{file:?}").contains("s3cret"));
    }

    #[test]
    fn malformed_lines_are_named_without_their_token() {
        for (text, part) in [
            ("a,b,1\ns3cret,x\n", "line 2"),
            (",x,1\n", "line 1"),
            ("s3cret,,1\n", "line 1"),
            ("s3cret,x,1\ns3cret,y,2\n", "line 2"),
        ] {
            let error = TokenFile::parse(text).unwrap_err();
            assert!(error.contains(part) && !error.contains("s3cret"), "{error}");
        }
    }
}
