//! `imagePullSecrets` → credentials for registries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kittiwake_core::artifact::RegistryCredential;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Key of a Secret of type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG_JSON: &str = ".dockerconfigjson";
/// Key of a Secret of type `kubernetes.io/dockercfg`.
const DOCKER_CFG: &str = ".dockercfg";

/// What the pull secrets hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// In the order of `imagePullSecrets`.
    pub known: Vec<RegistryCredential>,
    /// Why a pull secret could not be used, one sentence each. As with Kubernetes, pulling is tried without it.
    pub problems: Vec<String>,
}

/// Credentials of the Secrets `names`, in order.
pub fn of(names: &[String], secret: impl Fn(&str) -> Option<Arc<Secret>>) -> Credentials {
    let mut credentials = Credentials::default();
    for name in names {
        let read = secret(name).ok_or_else(|| format!("imagePullSecrets: secret {name:?} not found"));
        match read.and_then(|secret| read_secret(name, &secret)) {
            Ok(known) => credentials.known.extend(known),
            Err(problem) => credentials.problems.push(problem),
        }
    }
    credentials
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Login>,
}

/// One registry's login: either both names, or both joined and encoded.
#[derive(Deserialize)]
struct Login {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
}

fn read_secret(name: &str, secret: &Secret) -> Result<Vec<RegistryCredential>, String> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice())
    };
    let not_json =
        |error: serde_json::Error| format!("imagePullSecrets: secret {name:?} is not valid JSON: {error}");
    let logins = if let Some(json) = data(DOCKER_CONFIG_JSON) {
        serde_json::from_slice::<DockerConfig>(json)
            .map_err(not_json)?
            .auths
    } else if let Some(json) = data(DOCKER_CFG) {
        serde_json::from_slice::<BTreeMap<String, Login>>(json).map_err(not_json)?
    } else {
        return Err(format!(
            "imagePullSecrets: secret {name:?} has neither {DOCKER_CONFIG_JSON} nor {DOCKER_CFG}; make it with kubectl create secret docker-registry"
        ));
    };
    Ok(logins
        .into_iter()
        .filter_map(|(registry, login)| credential(&registry, login))
        .collect())
}

fn credential(registry: &str, login: Login) -> Option<RegistryCredential> {
    let joined = login
        .auth
        .as_deref()
        .filter(|auth| !auth.is_empty())
        .and_then(|auth| {
            let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
            text.split_once(':')
                .map(|(username, password)| (username.to_owned(), password.to_owned()))
        });
    let (username, password) = match (login.username, login.password) {
        (Some(username), Some(password)) => (username, password),
        _ => joined?,
    };
    Some(RegistryCredential {
        registry: host_of(registry),
        username,
        password,
    })
}

/// `https://index.docker.io/v1/` → `index.docker.io`.
fn host_of(registry: &str) -> String {
    let rest = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(key: &str, json: &str) -> Arc<Secret> {
        let data = BTreeMap::from([(key.to_owned(), ByteString(json.as_bytes().to_vec()))]);
        Arc::new(Secret {
            data: Some(data),
            ..Secret::default()
        })
    }

    fn read(key: &str, json: &str) -> Credentials {
        of(&["pull".to_owned()], |_| Some(secret(key, json)))
    }

    #[test]
    fn both_forms_of_secret_are_read() {
        let config = r#"{"auths":{"https://ghcr.io/v2/":{"username":"me","password":"p:w"},"127.0.0.1:5000":{"auth":"bWU6cDp3"},"x.io":{}}}"#;
        let read_config = read(DOCKER_CONFIG_JSON, config);
        let found: Vec<_> = read_config
            .known
            .iter()
            .map(|c| (&*c.registry, &*c.username, &*c.password))
            .collect();
        assert_eq!(found, [("127.0.0.1:5000", "me", "p:w"), ("ghcr.io", "me", "p:w")]);
        let old = read(
            DOCKER_CFG,
            r#"{"ghcr.io":{"username":"me","password":"secret","email":"x"}}"#,
        );
        assert_eq!(old.known[0].registry, "ghcr.io");
        assert!(
            !format!("{old:?}").contains("secret\""),
            "passwords are not printed"
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let missing = of(&["gone".to_owned()], |_| None);
        assert_eq!(missing.problems, ["imagePullSecrets: secret \"gone\" not found"]);
        assert!(read(DOCKER_CONFIG_JSON, "{").problems[0].contains("not valid JSON"));
        assert!(read("password", "x").problems[0].contains("kubectl create secret docker-registry"));
        assert_eq!(
            read(DOCKER_CONFIG_JSON, r#"{"auths":{"a":{"auth":"%%%"}}}"#).known,
            []
        );
    }
}
