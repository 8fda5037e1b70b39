//! Bodies that kubectl 1.32 really sent, and bodies made by hand.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex
        .chars()
        .map(|digit| digit.to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A field with bytes.
fn block(number: u64, content: &[u8]) -> Vec<u8> {
    [
        varint(number << 3 | 2),
        varint(content.len() as u64),
        content.to_vec(),
    ]
    .concat()
}

/// A field with a number.
fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let type_meta = [block(1, api_version.as_bytes()), block(2, kind.as_bytes())].concat();
    [
        MAGIC.to_vec(),
        block(1, &type_meta),
        block(2, object),
        block(3, b""),
        block(4, b""),
    ]
    .concat()
}

#[test]
fn roles_and_token_requests_are_read() {
    // The core group is the empty text: an element of a list is kept also when it is empty.
    let rule = [
        block(1, b"get"),
        block(1, b"list"),
        block(2, b""),
        block(3, b"pods"),
    ]
    .concat();
    let role = [block(1, &block(1, b"reader")), block(2, &rule)].concat();
    assert_eq!(
        decode(&body("rbac.authorization.k8s.io/v1", "Role", &role)).unwrap(),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader"},
            "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}],
        })
    );
    let spec = [block(1, b"vault"), number(4, 600)].concat();
    assert_eq!(
        decode(&body(
            "authentication.k8s.io/v1",
            "TokenRequest",
            &block(2, &spec)
        ))
        .unwrap(),
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": ["vault"], "expirationSeconds": 600},
        })
    );
}

#[test]
fn what_kubectl_sends_is_read() {
    for (sent, wanted) in [
        // kubectl create namespace demo
        (
            "6b3873000a0f0a02763112094e616d657370616365121c0a140a0464656d6f12001a0022002a0032003800420012001a020a001a002200",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}, "spec": {}, "status": {}}),
        ),
        // kubectl create configmap settings --from-literal=color=blue --from-literal=size=3
        (
            "6b3873000a0f0a0276311209436f6e6669674d617012340a180a0873657474696e677312001a0022002a00320038004200120d0a05636f6c6f721204626c756512090a0473697a651201331a002200",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"color": "blue", "size": "3"}}),
        ),
        // kubectl create secret generic pass --from-literal=user=me
        (
            "6b3873000a0c0a027631120653656372657412240a140a047061737312001a0022002a00320038004200120a0a047573657212026d651a001a002200",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pass"}, "data": {"user": "bWU="}}),
        ),
        // kubectl auth can-i get pods
        (
            "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a656374416363657373526576696577123c0a100a0012001a0022002a0032003800420012 1e0a1c0a0764656661756c7412036765741a0022002a04706f647332003a001a08080012001a0020001a002200",
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
                   "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}}),
        ),
        // kubectl auth can-i --list
        (
            "6b3873000a310a17617574686f72697a6174696f6e2e6b38732e696f2f7631121653656c665375626a65637452756c657352657669657712230a100a0012001a0022002a0032003800420012090a0764656661756c741a04180022001a002200",
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "metadata": {},
                   "spec": {"namespace": "default"}}),
        ),
        // kubectl auth whoami
        (
            "6b3873000a2d0a1861757468656e7469636174696f6e2e6b38732e696f2f7631121153656c665375626a656374526576696577121a0a100a0012001a0022002a0032003800420012060a040a0012001a002200",
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}),
        ),
    ] {
        assert_eq!(decode(&bytes(&sent.replace(' ', ""))).unwrap(), wanted);
    }
}

#[test]
fn every_part_of_metadata_is_read() {
    let time = [number(1, 1_700_000_000), number(2, 0)].concat();
    let label = [block(1, b"a"), block(2, b"b")].concat();
    let owner = [
        block(1, b"Service"),
        block(3, b"s"),
        block(4, b"u"),
        block(5, b"v1"),
        number(6, 1),
        number(7, 0),
    ]
    .concat();
    let managed = [
        block(1, b"m"),
        block(2, b"Update"),
        block(4, &time),
        block(6, b"FieldsV1"),
        block(7, &block(1, b"{\"f:data\":{}}")),
    ]
    .concat();
    let metadata = [
        block(1, b"n"),
        number(7, 3),
        block(8, &time),
        number(10, 0),
        block(11, &label),
        block(12, &label),
        block(13, &owner),
        block(14, b"f1"),
        block(14, b"f2"),
        block(17, &managed),
        // Unknown fields of every wire type.
        block(99, b"x"),
        number(98, 1),
        [varint(97 << 3 | 5), vec![0; 4]].concat(),
        [varint(96 << 3 | 1), vec![0; 8]].concat(),
    ];
    let object = [block(1, &metadata.concat()), number(4, 1)].concat();
    assert_eq!(
        decode(&body("v1", "ConfigMap", &object)).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
            "metadata": {
                "name": "n", "generation": 3, "creationTimestamp": "2023-11-14T22:13:20Z", "deletionGracePeriodSeconds": 0,
                "labels": {"a": "b"}, "annotations": {"a": "b"},
                "ownerReferences": [{"kind": "Service", "name": "s", "uid": "u", "apiVersion": "v1", "controller": true, "blockOwnerDeletion": false}],
                "finalizers": ["f1", "f2"],
                "managedFields": [{"manager": "m", "operation": "Update", "time": "2023-11-14T22:13:20Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}],
            },
        })
    );
}

#[test]
fn delete_options_and_events_are_read() {
    let options = [
        number(1, 0),
        block(2, &block(1, b"u")),
        block(4, b"Foreground"),
        block(5, b"All"),
    ]
    .concat();
    assert_eq!(
        decode(&body("serving.knative.dev/v1", "DeleteOptions", &options)).unwrap(),
        json!({"apiVersion": "serving.knative.dev/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
               "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground", "dryRun": ["All"]})
    );
    let micro = [number(1, 1), number(2, 500_000_000)].concat();
    let event = [
        block(2, &block(3, b"x")),
        block(4, b"hello"),
        number(8, 2),
        block(10, &micro),
    ]
    .concat();
    assert_eq!(
        decode(&body("v1", "Event", &event)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "x"}, "message": "hello", "count": 2,
               "eventTime": "1970-01-01T00:00:01.500000Z"})
    );
}

#[test]
fn bad_bodies_are_explained() {
    let deep = |object: &[u8]| decode(&body("v1", "ConfigMap", object));
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
    assert_eq!(decode(&vec![0; BODY_BYTES_MAX + 1]), Err(ProtobufError::TooLarge));
    assert!(matches!(
        decode(&body("v1", "Pod", b"")),
        Err(ProtobufError::UnknownKind { .. })
    ));
    assert_eq!(
        deep(&block(1, &block(1, b"\xff"))),
        Err(ProtobufError::InvalidUtf8("name"))
    );
    let gzip = [MAGIC.to_vec(), block(3, b"gzip")].concat();
    assert_eq!(decode(&gzip), Err(ProtobufError::Encoding("gzip".into())));
    for object in [
        vec![0x0a],
        vec![0x0a, 5, 1],
        vec![0x80; 11],
        vec![0x0b],
        vec![0x02, 0],
        number(1, 3),
        block(1, &block(8, &number(1, u64::MAX >> 1))),
        block(1, &block(17, &block(7, &block(1, b"{")))),
    ] {
        assert!(
            matches!(deep(&object), Err(ProtobufError::Malformed(_))),
            "{object:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(content in prop::collection::vec(any::<u8>(), 0..128), kind in "Namespace|ConfigMap|Secret|Event|DeleteOptions") {
        let _ = decode(&content);
        let _ = decode(&[MAGIC, &content].concat());
        let _ = decode(&body("v1", &kind, &content));
        let _ = decode(&body("v1", &kind, &block(1, &content)));
    }

    #[test]
    fn a_cut_body_is_never_taken_for_another(length in 0..76_usize) {
        let whole = body("v1", "ConfigMap", &[block(1, &block(1, b"name")), block(2, &[block(1, b"key"), block(2, b"value")].concat())].concat());
        prop_assume!(length < whole.len());
        if let Ok(value) = decode(&whole[..length]) {
            prop_assert!(value["data"].is_null() || value == decode(&whole).unwrap());
        }
    }

    #[test]
    fn config_maps_survive(data in prop::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..5)) {
        let entries: Vec<_> = data.iter().map(|(key, value)| block(2, &[block(1, key.as_bytes()), block(2, value.as_bytes())].concat())).collect();
        let decoded = decode(&body("v1", "ConfigMap", &entries.concat())).unwrap();
        let found = decoded.get("data").cloned().unwrap_or_else(|| json!({}));
        prop_assert_eq!(found, json!(data));
    }
}
