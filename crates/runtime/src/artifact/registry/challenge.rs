//! The `WWW-Authenticate` header (RFC 9110 §11.6.1), as far as registries use it.

/// How a registry wants to be authorized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With user name and password.
    Basic,
    /// With a token from `realm`, asked for with these parameters (service, scope).
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Query parameters of the request for a token.
        parameters: Vec<(String, String)>,
    },
}

impl Challenge {
    /// Reads one challenge; `None` for schemes that registries do not use.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut realm = None;
        let mut parameters = Vec::new();
        for (key, value) in pairs(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" | "scope" => parameters.push((key.to_ascii_lowercase(), value)),
                _ => {}
            }
        }
        Some(Self::Bearer {
            realm: realm?,
            parameters,
        })
    }
}

/// Splits `key="value", key=value`; a quoted value may hold commas and backslash escapes.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && *c != ',') {
            key.push(c);
        }
        if rest.next_if_eq(&'=').is_none() {
            if rest.peek().is_none() {
                return found;
            }
            continue;
        }
        let mut value = String::new();
        if rest.next_if_eq(&'"').is_some() {
            while let Some(c) = rest.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(rest.next()),
                    other => value.push(other),
                }
            }
        } else {
            while let Some(c) = rest.next_if(|c| *c != ',') {
                value.push(c);
            }
        }
        found.push((key.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_of_known_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::parse(hub),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                parameters: vec![
                    ("service".into(), "registry.docker.io".into()),
                    ("scope".into(), "repository:a/b:pull,push".into()),
                ],
            })
        );
        assert_eq!(Challenge::parse(r#"basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Bearer service=x"), None);
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(
            Challenge::parse(r#"Bearer realm="a\"b", error=x"#),
            Some(Challenge::Bearer {
                realm: "a\"b".into(),
                parameters: vec![]
            })
        );
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(header in "(Bearer )?[a-z=\", \\\\]{0,60}") {
            let _ = Challenge::parse(&header);
        }
    }
}
