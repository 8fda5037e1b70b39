//! Which credentials to show to which registry.

use docker_credential::{CredentialRetrievalError, DockerCredential};
use kittiwake_core::artifact::RegistryCredential;
use std::path::Path;

/// Docker's key for Docker Hub in its configuration.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which docker marks a password that is an identity token.
const IDENTITY_TOKEN_USER: &str = "<token>";

/// What a registry can be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// Nothing.
    Anonymous,
    /// A user's name and password.
    Basic {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// A refresh token, to be changed into a bearer token.
    IdentityToken(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic",
            Self::IdentityToken(_) => "IdentityToken",
        })
    }
}

/// The registry of a docker configuration key: no scheme, no path, one name for Docker Hub.
pub(crate) fn registry_of_key(key: &str) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = bare.split('/').next().unwrap_or(bare);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io",
        other => other,
    }
}

/// Everything to try for `registry`, in order: the Service's own secrets, the machine's docker configuration, nothing.
/// Reads a file and may run a docker credential helper: call it where blocking is allowed.
pub(crate) fn candidates(
    registry: &str,
    given: &[RegistryCredential],
    docker_config: Option<&Path>,
) -> Vec<Credential> {
    let mut found: Vec<_> = given
        .iter()
        .filter(|entry| registry_of_key(&entry.registry) == registry_of_key(registry))
        .map(|entry| of_user(entry.username.clone(), entry.password.clone()))
        .collect();
    found.extend(docker_config.and_then(|path| from_docker(path, registry)));
    found.push(Credential::Anonymous);
    found
}

fn of_user(username: String, password: String) -> Credential {
    if username == IDENTITY_TOKEN_USER {
        Credential::IdentityToken(password)
    } else {
        Credential::Basic { username, password }
    }
}

fn from_docker(path: &Path, registry: &str) -> Option<Credential> {
    let keys = if registry_of_key(registry) == "docker.io" {
        vec![DOCKER_HUB_KEY.to_owned(), "docker.io".to_owned()]
    } else {
        vec![registry.to_owned(), format!("https://{registry}")]
    };
    for key in keys {
        let Ok(file) = std::fs::File::open(path) else {
            return None;
        };
        match docker_credential::get_credential_from_reader(std::io::BufReader::new(file), &key) {
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                return Some(of_user(username, password));
            }
            Ok(DockerCredential::IdentityToken(token)) => return Some(Credential::IdentityToken(token)),
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), registry, %error, "docker credentials are not used");
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given(registry: &str, username: &str) -> RegistryCredential {
        RegistryCredential {
            registry: registry.into(),
            username: username.into(),
            password: "p".into(),
        }
    }

    #[test]
    fn secrets_come_first_and_only_for_their_registry() {
        let secrets = [
            given("https://index.docker.io/v1/", "a"),
            given("ghcr.io", "b"),
            given("docker.io", "<token>"),
        ];
        let basic = |name: &str| Credential::Basic {
            username: name.into(),
            password: "p".into(),
        };
        assert_eq!(
            candidates("docker.io", &secrets, None),
            [
                basic("a"),
                Credential::IdentityToken("p".into()),
                Credential::Anonymous
            ]
        );
        assert_eq!(
            candidates("ghcr.io", &secrets, None),
            [basic("b"), Credential::Anonymous]
        );
        assert_eq!(candidates("quay.io", &secrets, None), [Credential::Anonymous]);
    }

    #[test]
    fn docker_configuration_is_read_and_may_be_absent_or_broken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(candidates("r.io", &[], Some(&path)), [Credential::Anonymous]);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(candidates("r.io", &[], Some(&path)), [Credential::Anonymous]);
        std::fs::write(&path, r#"{"auths":{"r.io":{"auth":"dTpw"}}}"#).unwrap();
        let basic = Credential::Basic {
            username: "u".into(),
            password: "p".into(),
        };
        assert_eq!(
            candidates("r.io", &[], Some(&path)),
            [basic, Credential::Anonymous]
        );
    }

    proptest! {
        /// No helper is named in what is made here: one would be run.
        #[test]
        fn any_docker_configuration_leaves_a_way(
            key in "r.io|https://r.io|[ -~&&[^\"\\\\]]{0,12}",
            value in "\"[A-Za-z0-9+/=]{0,24}\"|null|\\{\\}|[0-9]{1,4}|\\[\\]",
            field in "auth|username|identitytoken",
            cut in 0_usize..80,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config.json");
            let text = format!(r#"{{"auths":{{"{key}":{{"{field}":{value}}}}}}}"#);
            let text: String = text.chars().take(cut).collect();
            std::fs::write(&path, text).unwrap();
            let found = candidates("r.io", &[], Some(&path));
            prop_assert_eq!(found.last(), Some(&Credential::Anonymous));
            let _ = registry_of_key(&key);
        }
    }
}
