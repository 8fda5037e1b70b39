//! Kubernetes' rules for names (apimachinery `pkg/util/validation/validation.go`), with its messages.

/// Longest DNS label, and longest name part of a qualified name, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS subdomain, in bytes.
const SUBDOMAIN_BYTES_MAX: usize = 253;

fn too_long(bytes: usize) -> String {
    format!("must be no more than {bytes} characters")
}

fn pattern(rule: &str, examples: &str, regex: &str) -> String {
    format!("{rule} (e.g. {examples}, regex used for validation is '{regex}')")
}

/// Lower-case letters, digits and `-`, ending with a letter or digit, and starting with one or, where `letter_first`,
/// with a letter.
fn is_label(text: &str, letter_first: bool) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let starts = bytes.first().is_some_and(|b| {
        if letter_first {
            b.is_ascii_lowercase()
        } else {
            alphanumeric(b)
        }
    });
    starts && bytes.last().is_some_and(alphanumeric) && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

/// What is wrong with a name of a Service, a Route, a Configuration or a Revision, or with a tag.
pub fn dns_1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(too_long(LABEL_BYTES_MAX));
    }
    if !is_label(text, true) {
        wrong.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "'my-name',  or 'abc-123'",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
        ));
    }
    wrong
}

/// The same for the start of a name that is still to be completed: it may end with `-`.
pub fn dns_1035_prefix(text: &str) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(start) if !start.is_empty() => dns_1035_label(&format!("{start}a")),
        _ => dns_1035_label(text),
    }
}

/// What is wrong with the name of a volume or of an object that is referred to.
pub fn dns_1123_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(too_long(LABEL_BYTES_MAX));
    }
    if !is_label(text, false) {
        wrong.push(pattern(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            "'my-name',  or '123-abc'",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        ));
    }
    wrong
}

/// What is wrong with the name of a service account.
pub fn dns_1123_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(too_long(SUBDOMAIN_BYTES_MAX));
    }
    if !text.split('.').all(|label| is_label(label, false)) {
        wrong.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            "'example.com'",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        ));
    }
    wrong
}

/// What is wrong with a host name: a subdomain of two labels or more (`IsFullyQualifiedDomainName`).
pub fn fully_qualified_domain_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["Required value".to_owned()];
    }
    let mut wrong = dns_1123_subdomain(text.strip_suffix('.').unwrap_or(text));
    if !text.contains('.') {
        wrong.push("should be a domain with at least two segments separated by dots".to_owned());
    }
    wrong
}

/// What is wrong with a name of the form `[prefix/]name`, such as an apiVersion.
pub fn qualified_name(text: &str) -> Vec<String> {
    let rule = pattern(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        "'MyName',  or 'my.name',  or '123-abc'",
        "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
    );
    let mut wrong = Vec::new();
    let name = match text.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            let prefix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {rule} {prefix}")];
        }
        Some(("", name)) => {
            wrong.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            wrong.extend(
                dns_1123_subdomain(prefix)
                    .into_iter()
                    .map(|why| format!("prefix part {why}")),
            );
            name
        }
        None => text,
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES_MAX {
        wrong.push(format!("name part {}", too_long(LABEL_BYTES_MAX)));
    }
    let bytes = name.as_bytes();
    let edges = [bytes.first(), bytes.last()]
        .into_iter()
        .all(|b| b.is_some_and(u8::is_ascii_alphanumeric));
    if !edges
        || !bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    {
        wrong.push(format!("name part {rule}"));
    }
    wrong
}

/// What is wrong with a kind.
pub fn c_identifier(text: &str) -> Vec<String> {
    let starts = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Vec::new();
    }
    vec![pattern(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "'my_name',  or 'MY_NAME',  or 'MyName'",
        "[A-Za-z_][A-Za-z0-9_]*",
    )]
}

/// Several complaints as Go prints a list of them: `[a b]`.
pub fn list(wrong: &[String]) -> String {
    format!("[{}]", wrong.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "hello", "a-b", "a1", "hello-00001"] {
            assert!(dns_1035_label(good).is_empty(), "{good}");
            assert!(dns_1123_label(good).is_empty(), "{good}");
        }
        for bad in ["", "-", "A", "a-", "-a", "a.b", "a_b", "ä", "1a"] {
            assert_eq!(dns_1035_label(bad).len(), 1, "{bad}");
        }
        assert!(dns_1123_label("1a").is_empty());
        assert!(dns_1035_label(&"a".repeat(63)).is_empty());
        assert_eq!(dns_1035_label(&"A".repeat(64)).len(), 2);
        assert!(dns_1035_prefix("hello-").is_empty());
        assert!(!dns_1035_prefix("-").is_empty());
    }

    #[test]
    fn the_message_is_that_of_kubernetes() {
        assert_eq!(
            list(&dns_1035_label("Hello")),
            "[a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]"
        );
    }

    #[test]
    fn subdomains_and_qualified_names() {
        for good in ["a", "a.b", "1.2-3"] {
            assert!(dns_1123_subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", "a..b", ".a", "A.b", &"a".repeat(254)] {
            assert!(!dns_1123_subdomain(bad).is_empty(), "{bad}");
        }
        for good in ["v1", "serving.knative.dev/v1", "a_B.c"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "/v1", "a/", "a/b/c", "-a", "A.B/c", &"a".repeat(64)] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(c_identifier("Service").is_empty());
        assert!(!c_identifier("Ser-vice").is_empty());
        assert!(!c_identifier("").is_empty());
    }
}
