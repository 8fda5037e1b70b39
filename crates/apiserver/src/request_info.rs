//! What a URL path asks for, in the manner of Kubernetes' `RequestInfo` (k8s.io/apiserver/pkg/endpoints/request).

use crate::status::ApiError;

/// Longest path that is looked at, in bytes.
const PATH_BYTES_MAX: usize = 2048;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/{group}`.
    Group(String),
    /// `/api/v1` (group empty) or `/apis/{group}/{version}`.
    GroupVersion(String, String),
    /// A collection, an object, or a part of an object.
    Resource(ResourcePath),
    /// Anything outside `/api` and `/apis`, as its segments.
    Other(Vec<String>),
}

/// A path below a group and version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for cluster scope and for "all namespaces".
    pub namespace: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Object; `None` for the collection.
    pub name: Option<String>,
    /// Part of the object, such as `status`.
    pub subresource: Option<String>,
}

/// Reads a path.
pub(crate) fn parse(path: &str) -> Result<Target, ApiError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "the path is longer than {PATH_BYTES_MAX} bytes"
        )));
    }
    let segments: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(percent_decode)
        .collect::<Option<_>>()
        .ok_or_else(|| {
            ApiError::bad_request("the path holds a percent-encoding that is not UTF-8 text".to_owned())
        })?;
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        ["api"] => Target::CoreVersions,
        ["apis"] => Target::Groups,
        ["api", version] => Target::GroupVersion(String::new(), (*version).to_owned()),
        ["apis", group] => Target::Group((*group).to_owned()),
        ["apis", group, version] => Target::GroupVersion((*group).to_owned(), (*version).to_owned()),
        ["api", version, rest @ ..] => resource("", version, rest)?,
        ["apis", group, version, rest @ ..] => resource(group, version, rest)?,
        _ => Target::Other(segments),
    })
}

/// `namespaces/{ns}/{resource}/…`, `namespaces/{name}[/status]` or `{resource}/…`.
fn resource(group: &str, version: &str, rest: &[&str]) -> Result<Target, ApiError> {
    let (namespace, rest) = match rest {
        ["namespaces", _name, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, tail @ ..] if !tail.is_empty() => (*namespace, tail),
        _ => ("", rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (*resource, None, None),
        [resource, name] => (*resource, Some(*name), None),
        [resource, name, subresource] => (*resource, Some(*name), Some(*subresource)),
        _ => return Err(ApiError::page_not_found()),
    };
    Ok(Target::Resource(ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
    }))
}

/// Undoes percent-encoding; `None` when the result is not UTF-8 or an escape is broken.
fn percent_decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(
        group: &str,
        namespace: &str,
        resource: &str,
        name: Option<&str>,
        subresource: Option<&str>,
    ) -> Target {
        Target::Resource(ResourcePath {
            group: group.into(),
            version: "v1".into(),
            namespace: namespace.into(),
            resource: resource.into(),
            name: name.map(Into::into),
            subresource: subresource.map(Into::into),
        })
    }

    #[test]
    fn paths_are_read_like_kubernetes_reads_them() {
        for (given, wanted) in [
            ("/api", Target::CoreVersions),
            ("/apis/", Target::Groups),
            ("/apis/g", Target::Group("g".into())),
            ("/api/v1", Target::GroupVersion(String::new(), "v1".into())),
            ("/apis/g/v1", Target::GroupVersion("g".into(), "v1".into())),
            ("/api/v1/namespaces", path("", "", "namespaces", None, None)),
            (
                "/api/v1/namespaces/a",
                path("", "", "namespaces", Some("a"), None),
            ),
            (
                "/api/v1/namespaces/a/status",
                path("", "", "namespaces", Some("a"), Some("status")),
            ),
            (
                "/api/v1/namespaces/a/configmaps",
                path("", "a", "configmaps", None, None),
            ),
            (
                "/apis/g/v1/namespaces/a/things/b",
                path("g", "a", "things", Some("b"), None),
            ),
            (
                "/apis/g/v1/namespaces/a/things/b%2Dc/log",
                path("g", "a", "things", Some("b-c"), Some("log")),
            ),
            ("/apis/g/v1/things", path("g", "", "things", None, None)),
            ("/openapi/v3", Target::Other(vec!["openapi".into(), "v3".into()])),
        ] {
            assert_eq!(parse(given).unwrap(), wanted, "{given}");
        }
    }

    #[test]
    fn bad_paths_are_refused() {
        let long = format!("/api/v1/{}", "a".repeat(PATH_BYTES_MAX));
        for given in [
            "/apis/g/v1/namespaces/a/b/c/d/e",
            "/api/v1/%ff",
            "/api/v1/%2",
            long.as_str(),
        ] {
            assert!(parse(given).is_err(), "{given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(given in "(/?[a-z%0-9]{0,4}){0,8}") {
            let _ = parse(&given);
        }
    }
}
