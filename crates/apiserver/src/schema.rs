//! Structural schemas: what the fields of a custom resource may hold.
//!
//! A [`Schema`] is compiled once from the `openAPIV3Schema` of a CRD version. It prunes unknown fields, fills
//! defaults and validates (Kubernetes' rules for structural schemas, apiextensions-apiserver `pkg/apiserver/schema`),
//! and tells server-side apply which lists are sets or maps. CEL rules (`x-kubernetes-validations`) are not evaluated.
//!
//! `apiVersion`, `kind` and `metadata` are always allowed and have the shape that every Kubernetes object has.

mod compile;
mod default;
mod format;
mod metadata;
mod prune;
mod validate;

pub use validate::FieldCause;

use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;

/// Deepest nesting of a schema that is compiled.
pub const SCHEMA_DEPTH_MAX: usize = 100;

/// Why an `openAPIV3Schema` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema cannot be used: {path}: {fault}")]
pub struct SchemaError {
    /// Where in the schema, for example `openAPIV3Schema.properties.spec`.
    pub path: String,
    /// What is wrong there.
    pub fault: String,
}

/// The structural schema of one kind.
#[derive(Debug, Clone)]
pub struct Schema {
    root: Node,
}

impl Schema {
    /// Compiles the JSON form of an `openAPIV3Schema`.
    pub fn compile(open_api_v3_schema: &Value) -> Result<Self, SchemaError> {
        let mut root = compile::node(open_api_v3_schema, "openAPIV3Schema", 0)?;
        root.add_object_fields();
        Ok(Self { root })
    }

    /// A schema that allows everything beside a well-formed `metadata`.
    #[cfg(test)]
    #[must_use]
    pub fn permissive() -> Self {
        let mut root = Node {
            kinds: vec![Kind::Object],
            preserve_unknown_fields: true,
            ..Node::default()
        };
        root.add_object_fields();
        Self { root }
    }

    /// Removes the fields that the schema does not know, and returns their paths (`spec.a[0].b`).
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(&self.root, object)
    }

    /// Fills in defaults; a null where null is not allowed gives way to the default, or goes.
    pub fn default(&self, object: &mut Value) {
        default::default(&self.root, object);
    }

    /// Everything about the object that the schema does not allow.
    #[must_use]
    pub fn validate(&self, object: &Value) -> Vec<FieldCause> {
        validate::validate(&self.root, object)
    }

    /// The node of the whole object, for server-side apply.
    pub(crate) fn root(&self) -> &Node {
        &self.root
    }
}

/// A JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// How the items of a list belong together (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// Items are scalars, each at most once.
    Set,
    /// Items are objects, told apart by these fields.
    Map(Vec<String>),
}

/// What `additionalProperties` says.
#[derive(Debug, Clone, Default)]
pub(crate) enum Additional {
    /// No field beside the named ones.
    #[default]
    Nothing,
    /// Fields of any name and content.
    Anything,
    /// Fields of any name with this content.
    Like(Box<Node>),
}

/// The schema of one value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    /// Types that the value may have; empty: any.
    pub kinds: Vec<Kind>,
    pub nullable: bool,
    pub preserve_unknown_fields: bool,
    pub embedded_resource: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Node>,
    pub additional: Additional,
    pub items: Option<Box<Node>>,
    pub list_type: ListType,
    pub map_is_atomic: bool,
    pub rules: Rules,
}

/// The validations of one value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub required: Vec<String>,
    pub allowed: Vec<Value>,
    pub pattern: Option<Regex>,
    pub format: Option<String>,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub length: Range,
    pub items: Range,
    pub properties: Range,
    pub unique_items: bool,
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Box<Node>>,
}

/// One end of a range of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bound {
    pub at: f64,
    pub exclusive: bool,
}

/// A range of counts, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Range {
    pub min: Option<u64>,
    pub max: Option<u64>,
}

impl Node {
    /// The schema of a field, where there is one.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Like(node) => Some(node),
            Additional::Nothing | Additional::Anything => None,
        })
    }

    /// Adds `apiVersion`, `kind` and `metadata`, as every object has them.
    fn add_object_fields(&mut self) {
        for name in ["apiVersion", "kind"] {
            self.properties.entry(name.to_owned()).or_insert_with(|| Self {
                kinds: vec![Kind::String],
                ..Self::default()
            });
        }
        self.properties.insert("metadata".to_owned(), metadata::node());
    }
}
