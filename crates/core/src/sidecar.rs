//! A container that runs beside the one that takes calls. The containers of a Revision are one instance together: they
//! start and end together, each finds the others at 127.0.0.1, and volumes of one name are the same for all.

use crate::artifact::FunctionKind;
use crate::probe::Probes;
use crate::revision::{Limits, RevisionSpec, Scaling};
use crate::unit::ByteCount;
use crate::volume::Mount;
use std::sync::Arc;

/// See the module's documentation. The fields are those of [`RevisionSpec`], which has the container that takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Its name among the containers.
    pub name: Arc<str>,
    /// Its image, pinned where that of the Revision is.
    pub image: Arc<str>,
    /// Replaces the program's name.
    pub command: Vec<String>,
    /// What comes after the program's name.
    pub args: Vec<String>,
    /// Where relative paths begin.
    pub working_dir: Option<Arc<str>>,
    /// Environment variables in order.
    pub env: Vec<(String, String)>,
    /// Folders that it finds, besides a `/tmp` of its own.
    pub mounts: Vec<Mount>,
    /// How it is asked whether it is ready and alive.
    pub probes: Probes,
    /// The linear memory that it may have.
    pub memory: ByteCount,
}

impl Sidecar {
    /// One of which nothing is said but what it runs.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, image: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            command: Vec::new(),
            args: Vec::new(),
            working_dir: None,
            env: Vec::new(),
            mounts: Vec::new(),
            probes: Probes::default(),
            memory: Limits::default().memory,
        }
    }

    /// It as if it were the only container of a Revision, with a uid of its own, which takes no calls: its port is the one
    /// that its own variable `PORT` names, else 0.
    #[must_use]
    pub fn alone(&self, revision: &RevisionSpec) -> RevisionSpec {
        let named = self.env.iter().find(|(name, _)| name == "PORT");
        RevisionSpec {
            key: revision.key.clone(),
            uid: format!("{}/{}", revision.uid, self.name).into(),
            service: Arc::clone(&revision.service),
            configuration: Arc::clone(&revision.configuration),
            image: Arc::clone(&self.image),
            kind: FunctionKind::Server,
            named_kind: None,
            command: self.command.clone(),
            args: self.args.clone(),
            working_dir: self.working_dir.clone(),
            env: self.env.clone(),
            mounts: self.mounts.clone(),
            port: named.and_then(|(_, port)| port.parse().ok()).unwrap_or(0),
            protocol: crate::revision::Protocol::default(),
            probes: self.probes.clone(),
            outbound: revision.outbound.clone(),
            limits: Limits {
                memory: self.memory,
                concurrency: None,
                ..revision.limits.clone()
            },
            isolation: revision.isolation,
            scaling: Scaling::default(),
            sidecars: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::RevisionKey;

    #[test]
    fn alone_it_is_a_server_of_its_own_image_with_what_all_share() {
        let revision = RevisionSpec {
            port: 8881,
            outbound: "db.example.com:5432".parse().unwrap(),
            sidecars: vec![Sidecar::new("other", "image")],
            ..RevisionSpec::new(RevisionKey::new("default", "a"), "uid", "serving")
        };
        let sidecar = Sidecar {
            memory: ByteCount::mib(8),
            ..Sidecar::new("side", "aside")
        };
        let alone = sidecar.alone(&revision);
        assert_eq!((&*alone.image, &*alone.uid, alone.port), ("aside", "uid/side", 0));
        assert_eq!(
            (alone.limits.memory, alone.limits.timeout),
            (ByteCount::mib(8), revision.limits.timeout)
        );
        assert_eq!(alone.outbound, revision.outbound);
        assert!(alone.kind.is_resident() && alone.sidecars.is_empty());
        let told = Sidecar {
            env: vec![("PORT".to_owned(), "9000".to_owned())],
            ..sidecar
        };
        assert_eq!(told.alone(&revision).port, 9000);
    }
}
