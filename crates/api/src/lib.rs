//! The Kubernetes resource types Kittiwake serves: fields, defaults, validation, conditions, CRDs.
