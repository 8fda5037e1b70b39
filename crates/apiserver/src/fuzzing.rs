//! Entry points for the fuzz targets in `fuzz/`: every decoder that a stranger's bytes reach. Not part of the API.
//!
//! Each function takes any bytes and must return. Where there is a law that the decoder must keep (what was read can be
//! written and read again), breaking it panics.

use crate::handler::list_options;
use crate::handler::pages::Token;
use crate::json_path::JsonPath;
use crate::patch::apply::{ApplyRequest, apply};
use crate::patch::field_set::FieldSet;
use crate::patch::{self, managed_fields};
use crate::query::Query;
use crate::schema::Schema;
use crate::selector::{FieldSelector, LabelSelector};
use crate::{builtin, decode, negotiation, object, protobuf, request_info};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// A resource version that query rules are checked against.
const VERSION: u64 = 1000;

/// An object that selectors, paths and patches are tried on.
fn sample() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "1", "y": "2"},
        "metadata": {"name": "a", "labels": {"tier": "front", "n": "3"}, "finalizers": ["example.com/a"],
            "ownerReferences": [{"uid": "1", "name": "o"}, {"uid": "2", "name": "p"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "list": [1, [2, {"a": null}]]}})
}

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| match Schema::compile(&builtin::schema_of::<ConfigMap>()) {
        Ok(schema) => schema,
        Err(error) => unreachable!("the server itself starts with this schema: {error}"),
    })
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Two parts, cut at the first zero byte; where there is none, the sample and all of it.
fn document_and_patch(bytes: &[u8]) -> (Value, &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    match second {
        Some(second) => (
            decode::json(first)
                .map(|decoded| decoded.value)
                .unwrap_or_default(),
            second,
        ),
        None => (sample(), first),
    }
}

/// The path of a request.
pub fn path(bytes: &[u8]) {
    let _ = request_info::parse(text(bytes));
}

/// The query of a request, and the rules of its parameters.
pub fn query(bytes: &[u8]) {
    let Ok(uri) = format!("/x?{}", text(bytes)).parse::<Uri>() else {
        return;
    };
    let Ok(query) = Query::parse(&uri) else {
        return;
    };
    let _ = query.dry_run();
    let _ = query.field_validation();
    let _ = query.number("limit");
    let _ = list_options::check_list(&query).and_then(|()| list_options::check_list_version(&query, VERSION));
    let _ = list_options::watch_start(&query, VERSION);
}

/// A label selector; what was read is written and read again.
pub fn label_selector(bytes: &[u8]) {
    if let Ok(selector) = LabelSelector::parse(text(bytes)) {
        let matches = selector.matches(&sample());
        let again = LabelSelector::parse(&selector.to_string());
        assert_eq!(again.as_ref(), Ok(&selector));
        assert_eq!(again.map(|again| again.matches(&sample())), Ok(matches));
    }
}

/// A field selector; what was read is written and read again.
pub fn field_selector(bytes: &[u8]) {
    if let Ok(selector) = FieldSelector::parse(text(bytes)) {
        let _ = selector.matches(&sample());
        assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
    }
}

/// A JSONPath of a printer column.
pub fn json_path(bytes: &[u8]) {
    if let Ok(path) = JsonPath::parse(text(bytes)) {
        let _ = path.find(&sample()).len();
    }
}

/// Whether two values are the same, but for the last digit of numbers that are not whole: serde_json reads those to within
/// it (without its feature `float_roundtrip`).
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Number(one), Value::Number(other)) if one != other => {
            let (one, other) = (
                one.as_f64().unwrap_or(f64::NAN),
                other.as_f64().unwrap_or(f64::NAN),
            );
            (one - other).abs() <= one.abs() * 1e-14
        }
        _ => one == other,
    }
}

/// A body in JSON or YAML; what was read as JSON is what YAML reads of it.
pub fn body(bytes: &[u8]) {
    let yaml = decode::yaml(bytes);
    if let Ok(json) = decode::json(bytes) {
        let written = serde_json::to_vec(&json.value).unwrap_or_default();
        let again = decode::json(&written).map(|again| again.value);
        assert!(
            again.as_ref().is_ok_and(|again| same(again, &json.value)),
            "{again:?} is not {:?}",
            json.value
        );
    }
    if let Ok(mut decoded) = yaml {
        let _ = schema().prune(&mut decoded.value);
        schema().default(&mut decoded.value);
        let _ = schema().validate(&decoded.value);
        let _ = crate::metadata::check(&decoded.value);
        let _ = object::owners(&decoded.value);
    }
}

/// A body in protobuf.
pub fn protobuf(bytes: &[u8]) {
    if let Ok(object) = protobuf::decode(bytes) {
        assert!(object.is_object());
    }
}

/// A JSON patch; its result is no deeper than a body.
pub fn json_patch(bytes: &[u8]) {
    let (document, patch) = document_and_patch(bytes);
    if let Ok(patched) = patch::json::apply(&document, patch) {
        assert!(object::extent(&patched).depth <= decode::NESTING_DEPTH_MAX);
    }
}

/// A merge patch; twice is once.
pub fn merge_patch(bytes: &[u8]) {
    let (document, patch) = document_and_patch(bytes);
    if let Ok(patch) = decode::json(patch) {
        let once = patch::merge::apply(&document, &patch.value);
        assert_eq!(patch::merge::apply(&once, &patch.value), once);
    }
}

/// A strategic merge patch.
pub fn strategic_patch(bytes: &[u8]) {
    let (document, patch) = document_and_patch(bytes);
    if let Ok(patch) = decode::json(patch) {
        let _ = patch::strategic::apply(&document, &patch.value);
    }
}

/// A server-side apply on an object that may hold any `managedFields`; twice is once.
pub fn server_side_apply(bytes: &[u8]) {
    let (live, applied) = document_and_patch(bytes);
    let Ok(applied) = decode::yaml(applied) else {
        return;
    };
    let apply = |live: &Value| {
        apply(ApplyRequest {
            schema: schema(),
            live: Some(live),
            applied: applied.value.clone(),
            manager: "m",
            force: true,
            api_version: "v1",
            subresource: None,
            now: Timestamp::UNIX_EPOCH,
        })
    };
    if let Ok(once) = apply(&live) {
        assert_eq!(apply(&once), Ok(once));
    }
}

/// `managedFields` as clients may write them, and a set of fields that is written and read again.
pub fn managed_fields(bytes: &[u8]) {
    let Ok(decoded) = decode::json(bytes) else {
        return;
    };
    if let Ok(set) = FieldSet::from_fields_v1(&decoded.value) {
        assert_eq!(FieldSet::from_fields_v1(&set.to_fields_v1()), Ok(set));
    }
    let mut new = sample();
    object::metadata_mut(&mut new).insert("managedFields".into(), decoded.value);
    let _ = crate::metadata::check_managed_fields(&new);
    managed_fields::record_update(
        schema(),
        Some(&sample()),
        &mut new,
        "m",
        "v1",
        None,
        Timestamp::UNIX_EPOCH,
    );
}

/// A continue token; what was read is written and read again.
pub fn continue_token(bytes: &[u8]) {
    if let Some(token) = Token::decode(text(bytes)) {
        assert_eq!(Token::decode(&token.encode()), Some(token));
    }
}

/// The headers `Accept` and `Content-Type`.
pub fn headers(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let headers = HeaderMap::from_iter([(ACCEPT, value.clone()), (CONTENT_TYPE, value)]);
    let _ = negotiation::format(&headers);
    let _ = negotiation::discovery(&headers);
    let _ = negotiation::body_form(&headers);
    let _ = negotiation::patch_form(&headers, true);
}
