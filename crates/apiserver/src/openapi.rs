//! OpenAPI v3, made from the schemas of the registry, and an empty v2 document for kubectl 1.28 and older.
//!
//! kubectl needs three things here: the list of documents with hashed URLs, `fieldValidation` among the parameters
//! of PATCH (else it validates with v2), and `x-kubernetes-group-version-kind`: an object on operations, an array
//! on schemas.

use crate::discovery::digest;
use crate::registry::{Registry, Served};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Content type of the v2 document. It has `.v1.0`: the `@v1.0` that clients ask for breaks Go's parser in a reply.
pub(crate) const V2_CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// An empty v2 document in protobuf: `swagger` "2.0" (field 1), an `info` with title "" and version "" (field 2),
/// and no paths (field 8).
pub(crate) const V2_EMPTY: &[u8] = &[
    0x0a, 0x03, b'2', b'.', b'0', // swagger: "2.0"
    0x12, 0x0a, 0x0a, 0x04, b'k', b'i', b't', b't', 0x12, 0x02, b'v',
    b'1', // info: {title: "kitt", version: "v1"}
    0x42, 0x00, // paths: {}
];

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// One document, ready to be sent.
#[derive(Clone)]
pub(crate) struct Document {
    /// The JSON text.
    pub json: bytes::Bytes,
    /// Hash of the text, as in its URL.
    pub hash: String,
}

/// All documents by path below `/openapi/v3`, such as `apis/serving.knative.dev/v1`.
pub(crate) struct OpenApi {
    documents: BTreeMap<String, Document>,
}

impl OpenApi {
    /// The documents of a registry.
    pub(crate) fn new(registry: &Registry) -> Self {
        let mut documents = BTreeMap::new();
        for (group, versions) in registry.groups() {
            for version in versions {
                let (path, made) = make(registry, &group, &version);
                documents.insert(path, made);
            }
        }
        Self { documents }
    }

    /// The same documents, with those of one group made anew from a registry.
    pub(crate) fn with_group(&self, registry: &Registry, changed: &str) -> Self {
        let mut documents = self.documents.clone();
        let below = format!("apis/{changed}/");
        documents.retain(|path, _| !path.starts_with(&below));
        let versions = registry
            .groups()
            .into_iter()
            .filter(|(group, _)| group == changed);
        for version in versions.flat_map(|(_, versions)| versions) {
            let (path, made) = make(registry, changed, &version);
            documents.insert(path, made);
        }
        Self { documents }
    }

    /// The list at `/openapi/v3`.
    pub(crate) fn root(&self) -> Value {
        let paths: Map<String, Value> = self
            .documents
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        json!({"paths": paths})
    }

    /// One document.
    pub(crate) fn document(&self, path: &str) -> Option<&Document> {
        self.documents.get(path)
    }
}

/// The document of a group and version, and its path.
fn make(registry: &Registry, group: &str, version: &str) -> (String, Document) {
    let path = prefix(group, version).trim_start_matches('/').to_owned();
    let json = bytes::Bytes::from(document(registry, group, version).to_string());
    let hash = digest(&json);
    (path, Document { json, hash })
}

/// `/api/v1` or `/apis/{group}/{version}`.
fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

fn document(registry: &Registry, group: &str, version: &str) -> Value {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    schemas.insert(OBJECT_META.into(), crate::builtin::schema_of::<ObjectMeta>());
    schemas.insert(LIST_META.into(), crate::builtin::schema_of::<ListMeta>());
    for served in registry.group_version(group, version) {
        add_schemas(served, group, &mut schemas);
        add_paths(served, group, &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kittiwake", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// Name of a kind's schema: reversed group, version, kind; Kubernetes' own kinds are under `io.k8s.api`.
fn schema_name(served: &Served, group: &str) -> String {
    let (version, kind) = (&served.version.name, &served.kind.kind);
    if served.kind.built_in {
        let first = if group.is_empty() {
            "core"
        } else {
            group.split('.').next().unwrap_or_default()
        };
        return format!("io.k8s.api.{first}.{version}.{kind}");
    }
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

fn kind_json(served: &Served, group: &str, kind: &str) -> Value {
    json!({"group": group, "version": served.version.name, "kind": kind})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn add_schemas(served: &Served, group: &str, schemas: &mut Map<String, Value>) {
    let name = schema_name(served, group);
    let mut schema = served.version.open_api.clone();
    let map = crate::object::map_mut(&mut schema);
    map.insert("type".into(), "object".into());
    map.insert(
        "x-kubernetes-group-version-kind".into(),
        json!([kind_json(served, group, &served.kind.kind)]),
    );
    let properties = crate::object::child_mut(&mut schema, "properties");
    properties.insert("apiVersion".into(), json!({"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."}));
    properties.insert(
        "kind".into(),
        json!({"type": "string", "description": "Kind is the REST resource that this object represents."}),
    );
    properties.insert("metadata".into(), json!({"description": "Standard object's metadata.", "allOf": [reference(OBJECT_META)], "default": {}}));
    let list = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [reference(LIST_META)]},
            "items": {"type": "array", "items": {"allOf": [reference(&name)]}},
        },
        "x-kubernetes-group-version-kind": [kind_json(served, group, &served.kind.list_kind)],
    });
    schemas.insert(format!("{name}List"), list);
    schemas.insert(name, schema);
}

fn add_paths(served: &Served, group: &str, paths: &mut Map<String, Value>) {
    let kind = &served.kind;
    let root = prefix(group, &served.version.name);
    let collection = if kind.namespaced {
        paths.insert(
            format!("{root}/{}", kind.plural),
            json!({"get": operation(served, group, "list", &[])}),
        );
        format!("{root}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{root}/{}", kind.plural)
    };
    let object = format!("{collection}/{{name}}");
    let verbs = |wanted: &[(&str, &str)], path_parameters: &[&str]| {
        let mut item = Map::new();
        for (method, verb) in wanted.iter().filter(|(_, verb)| kind.verbs.contains(verb)) {
            item.insert(
                (*method).to_owned(),
                operation(served, group, verb, path_parameters),
            );
        }
        Value::Object(item)
    };
    let namespace: &[&str] = if kind.namespaced { &["namespace"] } else { &[] };
    let name: &[&str] = if kind.namespaced {
        &["namespace", "name"]
    } else {
        &["name"]
    };
    let single = [
        ("get", "get"),
        ("put", "update"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    paths.insert(
        collection,
        verbs(
            &[
                ("get", "list"),
                ("post", "create"),
                ("delete", "deletecollection"),
            ],
            namespace,
        ),
    );
    if kind.status {
        paths.insert(
            format!("{object}/status"),
            verbs(&[("get", "get"), ("put", "update"), ("patch", "patch")], name),
        );
    }
    paths.insert(object, verbs(&single, name));
}

/// One operation. Strategic merge patch is not named: kubectl would then want patch keys in the schema, and without
/// the name it falls back to what it knows of Kubernetes' own kinds.
fn operation(served: &Served, group: &str, verb: &str, path_parameters: &[&str]) -> Value {
    let schema = schema_name(served, group);
    let answer = if verb == "list" {
        format!("{schema}List")
    } else {
        schema.clone()
    };
    let parameter = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}});
    let mut parameters: Vec<Value> = path_parameters
        .iter()
        .map(|name| parameter(name, "path"))
        .collect();
    let queries: &[&str] = match verb {
        "list" | "deletecollection" => &[
            "labelSelector",
            "fieldSelector",
            "limit",
            "continue",
            "resourceVersion",
        ],
        "create" | "update" | "patch" => &["dryRun", "fieldManager", "fieldValidation"],
        "delete" => &["dryRun", "propagationPolicy", "gracePeriodSeconds"],
        _ => &[],
    };
    parameters.extend(queries.iter().map(|name| parameter(name, "query")));
    let mut operation = json!({
        "operationId": format!("{verb}{}{}", capitalized(&served.version.name), served.kind.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference(&answer)}}}},
        "x-kubernetes-action": if verb == "update" { "put" } else if verb == "create" { "post" } else { verb },
        "x-kubernetes-group-version-kind": kind_json(served, group, &served.kind.kind),
    });
    let body = match verb {
        "create" | "update" => json!({"application/json": {"schema": reference(&schema)}}),
        "patch" => [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ]
        .iter()
        .map(|media| ((*media).to_owned(), json!({"schema": {"type": "object"}})))
        .collect::<Map<_, _>>()
        .into(),
        _ => return operation,
    };
    crate::object::map_mut(&mut operation)
        .insert("requestBody".into(), json!({"required": true, "content": body}));
    operation
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_offers_field_validation_and_no_strategic_merge() {
        let registry = Registry::new(crate::builtin::kinds().unwrap(), &[]).unwrap();
        let open_api = OpenApi::new(&registry);
        let json: Value = serde_json::from_slice(&open_api.document("api/v1").unwrap().json).unwrap();
        let patch = &json["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "ConfigMap");
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(
            parameters
                .iter()
                .any(|parameter| parameter["name"] == "fieldValidation")
        );
        assert!(
            patch["requestBody"]["content"]
                .get("application/strategic-merge-patch+json")
                .is_none()
        );
        let schema = &json["components"]["schemas"]["io.k8s.api.core.v1.ConfigMap"];
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "ConfigMap");
        let url = open_api.root()["paths"]["api/v1"]["serverRelativeURL"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(url.starts_with("/openapi/v3/api/v1?hash="), "{url}");
    }
}
