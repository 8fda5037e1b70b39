//! Which field of which message has which number (the `generated.proto` files of `k8s.io/api` and `apimachinery`).

mod auth;

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub number: u64,
    pub name: &'static str,
    pub form: Form,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Form {
    /// A text; the empty text counts as absent.
    Text,
    /// A number; 0 counts as absent.
    Int,
    /// A number that may be absent; 0 is a value.
    OptionalInt,
    /// A boolean that may be absent.
    OptionalBool,
    /// `Time` or `MicroTime`.
    Time,
    /// `FieldsV1`.
    RawJson,
    /// A message.
    Message(&'static [Field]),
    /// A list of texts.
    Texts,
    /// A list of messages.
    Messages(&'static [Field]),
    /// A map of texts.
    TextMap,
    /// A map of bytes.
    BytesMap,
}

const fn field(number: u64, name: &'static str, form: Form) -> Field {
    Field { number, name, form }
}

/// The table of a kind.
pub(super) fn of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match (api_version, kind) {
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "ConfigMap") => CONFIG_MAP,
        ("v1", "Secret") => SECRET,
        ("v1", "Event") => CORE_EVENT,
        ("events.k8s.io/v1", "Event") => EVENT,
        // It belongs to every group: each client writes the version of the kind that it deletes.
        (_, "DeleteOptions") => DELETE_OPTIONS,
        ("v1", "ServiceAccount") => auth::SERVICE_ACCOUNT,
        ("rbac.authorization.k8s.io/v1", "Role") => auth::ROLE,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => auth::CLUSTER_ROLE,
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => auth::BINDING,
        ("authentication.k8s.io/v1", "TokenRequest") => auth::TOKEN_REQUEST,
        ("authentication.k8s.io/v1", "TokenReview") => auth::TOKEN_REVIEW,
        ("authorization.k8s.io/v1", "SubjectAccessReview" | "LocalSubjectAccessReview") => {
            auth::SUBJECT_ACCESS_REVIEW
        }
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => SELF_SUBJECT_ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => SELF_SUBJECT_RULES_REVIEW,
        ("authentication.k8s.io/v1", "SelfSubjectReview") => SELF_SUBJECT_REVIEW,
        _ => return None,
    })
}

const OBJECT_META: &[Field] = &[
    field(1, "name", Form::Text),
    field(2, "generateName", Form::Text),
    field(3, "namespace", Form::Text),
    field(4, "selfLink", Form::Text),
    field(5, "uid", Form::Text),
    field(6, "resourceVersion", Form::Text),
    field(7, "generation", Form::Int),
    field(8, "creationTimestamp", Form::Time),
    field(9, "deletionTimestamp", Form::Time),
    field(10, "deletionGracePeriodSeconds", Form::OptionalInt),
    field(11, "labels", Form::TextMap),
    field(12, "annotations", Form::TextMap),
    field(13, "ownerReferences", Form::Messages(OWNER_REFERENCE)),
    field(14, "finalizers", Form::Texts),
    field(17, "managedFields", Form::Messages(MANAGED_FIELDS_ENTRY)),
];

const OWNER_REFERENCE: &[Field] = &[
    field(5, "apiVersion", Form::Text),
    field(1, "kind", Form::Text),
    field(3, "name", Form::Text),
    field(4, "uid", Form::Text),
    field(6, "controller", Form::OptionalBool),
    field(7, "blockOwnerDeletion", Form::OptionalBool),
];

const MANAGED_FIELDS_ENTRY: &[Field] = &[
    field(1, "manager", Form::Text),
    field(2, "operation", Form::Text),
    field(3, "apiVersion", Form::Text),
    field(4, "time", Form::Time),
    field(6, "fieldsType", Form::Text),
    field(7, "fieldsV1", Form::RawJson),
    field(8, "subresource", Form::Text),
];

const NAMESPACE: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "spec", Form::Message(&[field(1, "finalizers", Form::Texts)])),
    field(
        3,
        "status",
        Form::Message(&[
            field(1, "phase", Form::Text),
            field(
                2,
                "conditions",
                Form::Messages(&[
                    field(1, "type", Form::Text),
                    field(2, "status", Form::Text),
                    field(4, "lastTransitionTime", Form::Time),
                    field(5, "reason", Form::Text),
                    field(6, "message", Form::Text),
                ]),
            ),
        ]),
    ),
];

const CONFIG_MAP: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "data", Form::TextMap),
    field(3, "binaryData", Form::BytesMap),
    field(4, "immutable", Form::OptionalBool),
];

const SECRET: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "data", Form::BytesMap),
    field(3, "type", Form::Text),
    field(4, "stringData", Form::TextMap),
    field(5, "immutable", Form::OptionalBool),
];

const OBJECT_REFERENCE: &[Field] = &[
    field(1, "kind", Form::Text),
    field(2, "namespace", Form::Text),
    field(3, "name", Form::Text),
    field(4, "uid", Form::Text),
    field(5, "apiVersion", Form::Text),
    field(6, "resourceVersion", Form::Text),
    field(7, "fieldPath", Form::Text),
];

const EVENT_SOURCE: &[Field] = &[field(1, "component", Form::Text), field(2, "host", Form::Text)];

const EVENT_SERIES: &[Field] = &[
    field(1, "count", Form::Int),
    field(2, "lastObservedTime", Form::Time),
];

const CORE_EVENT: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "involvedObject", Form::Message(OBJECT_REFERENCE)),
    field(3, "reason", Form::Text),
    field(4, "message", Form::Text),
    field(5, "source", Form::Message(EVENT_SOURCE)),
    field(6, "firstTimestamp", Form::Time),
    field(7, "lastTimestamp", Form::Time),
    field(8, "count", Form::Int),
    field(9, "type", Form::Text),
    field(10, "eventTime", Form::Time),
    field(11, "series", Form::Message(EVENT_SERIES)),
    field(12, "action", Form::Text),
    field(13, "related", Form::Message(OBJECT_REFERENCE)),
    field(14, "reportingComponent", Form::Text),
    field(15, "reportingInstance", Form::Text),
];

const EVENT: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "eventTime", Form::Time),
    field(3, "series", Form::Message(EVENT_SERIES)),
    field(4, "reportingController", Form::Text),
    field(5, "reportingInstance", Form::Text),
    field(6, "action", Form::Text),
    field(7, "reason", Form::Text),
    field(8, "regarding", Form::Message(OBJECT_REFERENCE)),
    field(9, "related", Form::Message(OBJECT_REFERENCE)),
    field(10, "note", Form::Text),
    field(11, "type", Form::Text),
    field(12, "deprecatedSource", Form::Message(EVENT_SOURCE)),
    field(13, "deprecatedFirstTimestamp", Form::Time),
    field(14, "deprecatedLastTimestamp", Form::Time),
    field(15, "deprecatedCount", Form::Int),
];

const DELETE_OPTIONS: &[Field] = &[
    field(1, "gracePeriodSeconds", Form::OptionalInt),
    field(
        2,
        "preconditions",
        Form::Message(&[
            field(1, "uid", Form::Text),
            field(2, "resourceVersion", Form::Text),
        ]),
    ),
    field(3, "orphanDependents", Form::OptionalBool),
    field(4, "propagationPolicy", Form::Text),
    field(5, "dryRun", Form::Texts),
];

const SELF_SUBJECT_ACCESS_REVIEW: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(
        2,
        "spec",
        Form::Message(&[
            field(1, "resourceAttributes", Form::Message(RESOURCE_ATTRIBUTES)),
            field(2, "nonResourceAttributes", Form::Message(NON_RESOURCE_ATTRIBUTES)),
        ]),
    ),
];

const RESOURCE_ATTRIBUTES: &[Field] = &[
    field(1, "namespace", Form::Text),
    field(2, "verb", Form::Text),
    field(3, "group", Form::Text),
    field(4, "version", Form::Text),
    field(5, "resource", Form::Text),
    field(6, "subresource", Form::Text),
    field(7, "name", Form::Text),
];

const NON_RESOURCE_ATTRIBUTES: &[Field] = &[field(1, "path", Form::Text), field(2, "verb", Form::Text)];

const SELF_SUBJECT_RULES_REVIEW: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "spec", Form::Message(&[field(1, "namespace", Form::Text)])),
];

const SELF_SUBJECT_REVIEW: &[Field] = &[field(1, "metadata", Form::Message(OBJECT_META))];
