//! The four kinds that each function has, as controllers would leave them.

use serde_json::{Value, json};

/// One of the kinds.
pub struct Kind {
    plural: &'static str,
    kind: &'static str,
}

const SERVICE: Kind = Kind {
    plural: "services",
    kind: "Service",
};

/// In the order in which they come to be.
pub static KINDS: [Kind; 4] = [
    SERVICE,
    Kind {
        plural: "configurations",
        kind: "Configuration",
    },
    Kind {
        plural: "revisions",
        kind: "Revision",
    },
    Kind {
        plural: "routes",
        kind: "Route",
    },
];

/// The kinds in turn.
pub fn kind_of_turn(turn: usize) -> &'static Kind {
    KINDS.get(turn % KINDS.len()).unwrap_or(&SERVICE)
}

/// The name of everything of one function.
pub fn name(index: usize) -> String {
    format!("function-{index}")
}

impl Kind {
    /// The kind of this plural.
    pub fn of(plural: &'static str) -> &'static Self {
        let found = KINDS.iter().find(|kind| kind.plural == plural);
        found.unwrap_or(&SERVICE)
    }

    /// The path of all objects.
    pub fn collection(&self) -> String {
        format!("/apis/serving.knative.dev/v1/namespaces/default/{}", self.plural)
    }

    /// The path of one object.
    pub fn path(&self, index: usize) -> String {
        format!("{}/{}", self.collection(), name(index))
    }

    /// An object to create.
    pub fn object(&self, index: usize) -> Value {
        let name = name(index);
        let pod = json!({
            "containers": [{
                "image": "registry.example.com/team/function@sha256:0b05c4c2ef0c6ac1a04d72b7f33fbbb5d8e1e5e5a7a2b0b2a4f3cbd6f4a1c0de",
                "env": [{"name": "GREETING", "value": "hello"}, {"name": "LOG", "value": "info"}],
            }],
            "runtimeClassName": "wasmedge",
        });
        let spec = match self.plural {
            "revisions" => pod,
            "routes" => {
                json!({"traffic": [{"configurationName": name, "latestRevision": true, "percent": 100}]})
            }
            _ => json!({"template": {"spec": pod}}),
        };
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": self.kind,
            "metadata": {
                "name": name,
                "labels": {"app": name, "team": format!("team-{}", index % 10)},
                "annotations": {"example.com/owner": "somebody@example.com"},
            },
            "spec": spec,
        })
    }

    /// What another manager applies to it: an annotation.
    pub fn applied(&self, index: usize) -> Value {
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": self.kind,
            "metadata": {"name": name(index), "annotations": {"example.com/applied": "yes"}},
        })
    }
}
