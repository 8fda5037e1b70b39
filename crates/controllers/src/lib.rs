//! One reconciler per kind, each a pure plan and a thin apply, speaking only through kube::Client.
