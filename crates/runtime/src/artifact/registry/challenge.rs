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
    /// Reads the challenges of one header, which may hold several; those that registries do not use are left out.
    pub(crate) fn parse(header: &str) -> Vec<Self> {
        let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for (key, value) in pairs(header) {
            // The first parameter of a challenge has the scheme before it; a scheme without parameters has no value.
            let (scheme, key) = match key.split_once(char::is_whitespace) {
                Some((scheme, key)) => (Some(scheme), key.trim()),
                None if value.is_none() => (Some(key.as_str()), ""),
                None => (None, key.as_str()),
            };
            if let Some(scheme) = scheme {
                found.push((scheme.to_ascii_lowercase(), Vec::new()));
            }
            if let (Some((_, parameters)), Some(value)) = (found.last_mut(), value) {
                parameters.push((key.to_ascii_lowercase(), value));
            }
        }
        found
            .into_iter()
            .filter_map(|(scheme, parameters)| Self::new(&scheme, parameters))
            .collect()
    }

    fn new(scheme: &str, mut parameters: Vec<(String, String)>) -> Option<Self> {
        match scheme {
            "basic" => Some(Self::Basic),
            "bearer" => {
                let realm = parameters.iter().find(|(key, _)| key == "realm")?.1.clone();
                parameters.retain(|(key, _)| key == "service" || key == "scope");
                Some(Self::Bearer { realm, parameters })
            }
            _ => None,
        }
    }
}

/// Splits `key="value", key=value, key`; a quoted value may hold commas and backslash escapes.
fn pairs(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && *c != ',') {
            key.push(c);
        }
        if rest.next_if_eq(&'=').is_none() {
            if !key.trim().is_empty() {
                found.push((key.trim().to_owned(), None));
            }
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
        found.push((key.trim().to_owned(), Some(value)));
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
            [Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                parameters: vec![
                    ("service".into(), "registry.docker.io".into()),
                    ("scope".into(), "repository:a/b:pull,push".into()),
                ],
            }]
        );
        assert_eq!(Challenge::parse(r#"basic realm="x""#), [Challenge::Basic]);
        assert_eq!(Challenge::parse("Basic"), [Challenge::Basic]);
        assert_eq!(Challenge::parse("Bearer service=x"), []);
        assert_eq!(Challenge::parse("Negotiate"), []);
        assert_eq!(
            Challenge::parse(r#"Bearer realm="a\"b", error=x"#),
            [Challenge::Bearer {
                realm: "a\"b".into(),
                parameters: vec![]
            }]
        );
    }

    #[test]
    fn several_challenges_in_one_header() {
        let bearer = Challenge::Bearer {
            realm: "r".into(),
            parameters: vec![("scope".into(), "a,b".into())],
        };
        for header in [
            r#"Basic realm="x, Bearer y", Bearer realm="r",scope="a,b""#,
            r#"Basic, Negotiate abc==, Bearer realm=r, scope="a,b", error=z"#,
            r#"Basic charset=x , BEARER  scope="a,b", realm="r""#,
        ] {
            assert_eq!(
                Challenge::parse(header),
                [Challenge::Basic, bearer.clone()],
                "{header}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(header in "(Bearer )?[a-z=\", \\\\]{0,60}") {
            let _ = Challenge::parse(&header);
        }

        #[test]
        fn any_text_is_read_or_refused(header in ".{0,200}") {
            for challenge in Challenge::parse(&header) {
                if let Challenge::Bearer { realm, .. } = challenge {
                    let _ = reqwest::Url::parse(&realm);
                }
            }
        }
    }
}
