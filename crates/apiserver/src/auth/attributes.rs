//! What a request wants to do, in the words in which roles speak of it
//! (k8s.io/apiserver/pkg/endpoints/request/requestinfo.go, pkg/authorization/authorizer).

use super::identity::Identity;
use crate::query::Query;
use crate::request_info::{self, ResourcePath, Target};
use crate::selector::FieldSelector;
use crate::status::ApiError;
use http::{Method, Uri};

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// Something with objects.
    Resource(ResourceAttributes),
    /// Something with a path outside of resources, such as `/version`.
    Path { verb: String, path: String },
}

/// A verb and what it is about. Empty texts mean: all namespaces or cluster scope, the collection, the object itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourceAttributes {
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

impl ResourceAttributes {
    /// `resource` or `resource/subresource`.
    pub(crate) fn combined(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

impl Attributes {
    /// What a request wants. It is read from the path in the same way as the handlers read it, so that no spelling of a
    /// path is one thing here and another thing there.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        let other = |path: String| Self::Path {
            verb: method.as_str().to_ascii_lowercase(),
            path,
        };
        let joined = |segments: &[&str]| format!("/{}", segments.join("/"));
        match request_info::parse(uri.path()) {
            Ok(Target::Resource(path)) => Self::Resource(resource(method, uri, path)),
            Ok(Target::CoreVersions) => other("/api".to_owned()),
            Ok(Target::Groups) => other("/apis".to_owned()),
            Ok(Target::Group(group)) => other(joined(&["apis", &group])),
            Ok(Target::GroupVersion(group, version)) if group.is_empty() => other(joined(&["api", &version])),
            Ok(Target::GroupVersion(group, version)) => other(joined(&["apis", &group, &version])),
            Ok(Target::Other(segments)) => other(format!("/{}", segments.join("/"))),
            Err(_) => other(uri.path().to_owned()),
        }
    }

    pub(crate) fn verb(&self) -> &str {
        match self {
            Self::Resource(attributes) => &attributes.verb,
            Self::Path { verb, .. } => verb,
        }
    }

    /// The refusal, worded as Kubernetes words it (`forbiddenMessage` in
    /// k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go).
    pub(crate) fn denied(&self, identity: &Identity, reason: &str) -> ApiError {
        let user = &identity.name;
        let because = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        match self {
            Self::Path { verb, path } => {
                let why = format!("User {user:?} cannot {verb} path {path:?}{because}");
                ApiError::access_denied("", "", "", &why)
            }
            Self::Resource(asked) => {
                let place = if asked.namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {:?}", asked.namespace)
                };
                let why = format!(
                    "User {user:?} cannot {} resource {:?} in API group {:?} {place}{because}",
                    asked.verb,
                    asked.combined(),
                    asked.group
                );
                ApiError::access_denied(&asked.group, &asked.resource, &asked.name, &why)
            }
        }
    }
}

fn resource(method: &Method, uri: &Uri, path: ResourcePath) -> ResourceAttributes {
    let query = Query::parse(uri).unwrap_or_default();
    let mut name = path.name.unwrap_or_default();
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD if name.is_empty() => "list",
        Method::GET | Method::HEAD => "get",
        _ => "",
    };
    // A list of the one object of a name is about that object: roles may name it.
    if name.is_empty() && matches!(verb, "list" | "watch") {
        let selector = query.get("fieldSelector").map(FieldSelector::parse);
        if let Some(Ok(selector)) = selector {
            name = selector.exact("metadata.name").unwrap_or_default().to_owned();
        }
    }
    // A namespace is in itself: who has rights in it may be allowed to see it.
    let namespace = if path.group.is_empty() && path.resource == "namespaces" && path.namespace.is_empty() {
        name.clone()
    } else {
        path.namespace
    };
    ResourceAttributes {
        verb: verb.to_owned(),
        group: path.group,
        version: path.version,
        resource: path.resource,
        subresource: path.subresource.unwrap_or_default(),
        namespace,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> Attributes {
        Attributes::of(&method.parse().unwrap(), &path.parse().unwrap())
    }

    #[test]
    fn requests_are_verbs_on_resources() {
        let things = "/apis/g/v1/namespaces/a/things";
        for (method, path, wanted) in [
            ("GET", things.to_owned(), "list things a "),
            ("HEAD", things.to_owned(), "list things a "),
            ("GET", format!("{things}?watch=1"), "watch things a "),
            ("GET", format!("{things}?watch=false"), "list things a "),
            (
                "GET",
                format!("{things}?fieldSelector=metadata.name%3Dx"),
                "list things a x",
            ),
            (
                "GET",
                format!("{things}?fieldSelector=metadata.name%21%3Dx"),
                "list things a ",
            ),
            ("GET", format!("{things}/x"), "get things a x"),
            ("GET", format!("{things}/x?watch=true"), "watch things a x"),
            ("PUT", format!("{things}/x/status"), "update things/status a x"),
            ("PATCH", format!("{things}/x"), "patch things a x"),
            ("POST", things.to_owned(), "create things a "),
            ("DELETE", things.to_owned(), "deletecollection things a "),
            ("DELETE", format!("{things}/x"), "delete things a x"),
            ("GET", "/%61pis/g/v1//things".to_owned(), "list things  "),
            ("BREW", things.to_owned(), " things a "),
        ] {
            let Attributes::Resource(is) = of(method, &path) else {
                panic!("{path} is no resource")
            };
            let is = format!("{} {} {} {}", is.verb, is.combined(), is.namespace, is.name);
            assert_eq!(is, wanted, "{method} {path}");
        }
    }

    #[test]
    fn a_namespace_is_in_itself() {
        let Attributes::Resource(is) = of("GET", "/api/v1/namespaces/shop") else {
            panic!()
        };
        assert_eq!((is.namespace.as_str(), is.name.as_str()), ("shop", "shop"));
    }

    #[test]
    fn other_paths_have_one_spelling() {
        for (path, wanted) in [
            ("//version/", "/version"),
            ("/", "/"),
            ("/api", "/api"),
            ("/api/v1", "/api/v1"),
            ("/apis/g/v1", "/apis/g/v1"),
            ("/metri%63s", "/metrics"),
            ("/openapi/v3/apis/g/v1?hash=x", "/openapi/v3/apis/g/v1"),
        ] {
            let wanted = Attributes::Path {
                verb: "get".to_owned(),
                path: wanted.to_owned(),
            };
            assert_eq!(of("GET", path), wanted, "{path}");
        }
    }

    #[test]
    fn refusals_are_worded_as_kubernetes_words_them() {
        let user = Identity::new("x", &[]);
        for (method, path, wanted) in [
            (
                "GET",
                "/apis/serving.knative.dev/v1/namespaces/default/services",
                r#"services.serving.knative.dev is forbidden: User "x" cannot list resource "services" in API group "serving.knative.dev" in the namespace "default""#,
            ),
            (
                "DELETE",
                "/api/v1/namespaces/default/configmaps/a",
                r#"configmaps "a" is forbidden: User "x" cannot delete resource "configmaps" in API group "" in the namespace "default""#,
            ),
            (
                "GET",
                "/api/v1/secrets",
                r#"secrets is forbidden: User "x" cannot list resource "secrets" in API group "" at the cluster scope"#,
            ),
            (
                "GET",
                "/metrics",
                r#"forbidden: User "x" cannot get path "/metrics""#,
            ),
        ] {
            assert_eq!(of(method, path).denied(&user, "").message, wanted);
        }
        let with_reason = of("GET", "/metrics").denied(&user, "RBAC: x").message;
        assert_eq!(
            with_reason,
            r#"forbidden: User "x" cannot get path "/metrics": RBAC: x"#
        );
    }
}
