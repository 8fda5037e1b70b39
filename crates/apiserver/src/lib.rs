//! The Kubernetes API over the object store: one generic handler driven by CRDs.
