//! The schema of `metadata`, which is the same for every kind (apimachinery `pkg/apis/meta/v1/types.go`).

use super::{Additional, Kind, ListType, Node};

/// The schema of ObjectMeta. Every field may be null, because Go clients write `creationTimestamp: null`.
pub(super) fn node() -> Node {
    let mut metadata = object([
        ("name", scalar(Kind::String)),
        ("generateName", scalar(Kind::String)),
        ("namespace", scalar(Kind::String)),
        ("selfLink", scalar(Kind::String)),
        ("uid", scalar(Kind::String)),
        ("resourceVersion", scalar(Kind::String)),
        ("generation", scalar(Kind::Integer)),
        ("creationTimestamp", time()),
        ("deletionTimestamp", time()),
        ("deletionGracePeriodSeconds", scalar(Kind::Integer)),
        ("labels", text_map()),
        ("annotations", text_map()),
        (
            "ownerReferences",
            list(owner_reference(), ListType::Map(vec!["uid".into()])),
        ),
        ("finalizers", list(scalar(Kind::String), ListType::Set)),
        ("managedFields", list(managed_fields_entry(), ListType::Atomic)),
    ]);
    metadata.nullable = true;
    metadata
}

fn owner_reference() -> Node {
    let mut node = object([
        ("apiVersion", scalar(Kind::String)),
        ("kind", scalar(Kind::String)),
        ("name", scalar(Kind::String)),
        ("uid", scalar(Kind::String)),
        ("controller", scalar(Kind::Boolean)),
        ("blockOwnerDeletion", scalar(Kind::Boolean)),
    ]);
    node.map_is_atomic = true;
    node.rules.required = ["apiVersion", "kind", "name", "uid"].map(str::to_owned).to_vec();
    node
}

fn managed_fields_entry() -> Node {
    object([
        ("manager", scalar(Kind::String)),
        ("operation", scalar(Kind::String)),
        ("apiVersion", scalar(Kind::String)),
        ("time", time()),
        ("fieldsType", scalar(Kind::String)),
        (
            "fieldsV1",
            Node {
                kinds: vec![Kind::Object],
                nullable: true,
                preserve_unknown_fields: true,
                map_is_atomic: true,
                ..Node::default()
            },
        ),
        ("subresource", scalar(Kind::String)),
    ])
}

fn scalar(kind: Kind) -> Node {
    Node {
        kinds: vec![kind],
        nullable: true,
        ..Node::default()
    }
}

fn time() -> Node {
    let mut node = scalar(Kind::String);
    node.rules.format = Some("date-time".into());
    node
}

fn text_map() -> Node {
    Node {
        kinds: vec![Kind::Object],
        nullable: true,
        additional: Additional::Like(Box::new(Node {
            nullable: false,
            ..scalar(Kind::String)
        })),
        ..Node::default()
    }
}

fn list(items: Node, list_type: ListType) -> Node {
    Node {
        kinds: vec![Kind::Array],
        nullable: true,
        items: Some(Box::new(Node {
            nullable: false,
            ..items
        })),
        list_type,
        ..Node::default()
    }
}

fn object<const N: usize>(fields: [(&str, Node); N]) -> Node {
    Node {
        kinds: vec![Kind::Object],
        properties: fields
            .into_iter()
            .map(|(name, node)| (name.to_owned(), node))
            .collect(),
        ..Node::default()
    }
}
