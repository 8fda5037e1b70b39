//! The messages of ServiceAccounts, roles, tokens and reviews (`generated.proto` of core/v1, rbac/v1,
//! authentication/v1 and authorization/v1).

use super::{
    Field, Form, NON_RESOURCE_ATTRIBUTES, OBJECT_META, OBJECT_REFERENCE, RESOURCE_ATTRIBUTES, field,
};

pub(super) const SERVICE_ACCOUNT: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "secrets", Form::Messages(OBJECT_REFERENCE)),
    field(
        3,
        "imagePullSecrets",
        Form::Messages(&[field(1, "name", Form::Text)]),
    ),
    field(4, "automountServiceAccountToken", Form::OptionalBool),
];

const POLICY_RULE: &[Field] = &[
    field(1, "verbs", Form::Texts),
    field(2, "apiGroups", Form::Texts),
    field(3, "resources", Form::Texts),
    field(4, "resourceNames", Form::Texts),
    field(5, "nonResourceURLs", Form::Texts),
];

pub(super) const ROLE: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "rules", Form::Messages(POLICY_RULE)),
];

const LABEL_SELECTOR: &[Field] = &[
    field(1, "matchLabels", Form::TextMap),
    field(
        2,
        "matchExpressions",
        Form::Messages(&[
            field(1, "key", Form::Text),
            field(2, "operator", Form::Text),
            field(3, "values", Form::Texts),
        ]),
    ),
];

pub(super) const CLUSTER_ROLE: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(2, "rules", Form::Messages(POLICY_RULE)),
    field(
        3,
        "aggregationRule",
        Form::Message(&[field(1, "clusterRoleSelectors", Form::Messages(LABEL_SELECTOR))]),
    ),
];

pub(super) const BINDING: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(
        2,
        "subjects",
        Form::Messages(&[
            field(1, "kind", Form::Text),
            field(2, "apiGroup", Form::Text),
            field(3, "name", Form::Text),
            field(4, "namespace", Form::Text),
        ]),
    ),
    field(
        3,
        "roleRef",
        Form::Message(&[
            field(1, "apiGroup", Form::Text),
            field(2, "kind", Form::Text),
            field(3, "name", Form::Text),
        ]),
    ),
];

pub(super) const TOKEN_REQUEST: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(
        2,
        "spec",
        Form::Message(&[
            field(1, "audiences", Form::Texts),
            field(
                3,
                "boundObjectRef",
                Form::Message(&[
                    field(1, "kind", Form::Text),
                    field(2, "apiVersion", Form::Text),
                    field(3, "name", Form::Text),
                    field(4, "uid", Form::Text),
                ]),
            ),
            field(4, "expirationSeconds", Form::OptionalInt),
        ]),
    ),
];

pub(super) const TOKEN_REVIEW: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(
        2,
        "spec",
        Form::Message(&[field(1, "token", Form::Text), field(2, "audiences", Form::Texts)]),
    ),
];

pub(super) const SUBJECT_ACCESS_REVIEW: &[Field] = &[
    field(1, "metadata", Form::Message(OBJECT_META)),
    field(
        2,
        "spec",
        Form::Message(&[
            field(1, "resourceAttributes", Form::Message(RESOURCE_ATTRIBUTES)),
            field(2, "nonResourceAttributes", Form::Message(NON_RESOURCE_ATTRIBUTES)),
            field(3, "user", Form::Text),
            field(4, "groups", Form::Texts),
            field(6, "uid", Form::Text),
        ]),
    ),
];
