//! Which containers can be one instance together: those that stay.

use crate::component::{Loaded, Program};
use kittiwake_core::artifact::{FunctionKind, PrepareError};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::sidecar::Sidecar;
use std::sync::Arc;

/// Refuses what cannot run beside something else: instances that live for one call have no network that another program
/// could be in, and are not there between calls.
pub(super) fn check(
    serving: FunctionKind,
    sidecars: &[Sidecar],
    programs: &[Arc<Loaded>],
) -> Result<(), PrepareError> {
    let of_sidecars = sidecars.iter().zip(programs);
    check_kinds(
        serving,
        of_sidecars.map(|(sidecar, loaded)| (sidecar, runs_by_itself(&loaded.program))),
    )
}

/// Whether a program runs from its start to its end, rather than being called.
fn runs_by_itself(program: &Program) -> bool {
    match program {
        Program::Module(_) | Program::Cli(_) => true,
        Program::Handler(_) | Program::Direct(_) => false,
    }
}

fn check_kinds<'a>(
    serving: FunctionKind,
    sidecars: impl Iterator<Item = (&'a Sidecar, bool)> + Clone,
) -> Result<(), PrepareError> {
    let refused = |message: String| PrepareError::new(ErrorCode::UnsupportedKind, message);
    let names: Vec<&str> = sidecars.clone().map(|(sidecar, _)| &*sidecar.name).collect();
    let what = match serving {
        _ if names.is_empty() => return Ok(()),
        FunctionKind::Server => None,
        FunctionKind::Component => Some("a component of wasi:http"),
        FunctionKind::Command => Some("a program that answers one request and ends"),
    };
    if let Some(what) = what {
        return Err(refused(format!(
            "the container with the port holds {what}: each call gets an instance of its own, which no other container can \
             run beside. Build it as a program that listens on PORT and stays, or leave out {names:?} and deploy them as \
             Services of their own"
        )));
    }
    for (sidecar, runs) in sidecars {
        if !runs {
            let message = "its image holds a component of wasi:http, which is called and does not run by itself. Build it as \
                           a program that stays, or deploy it as a Service of its own and call that";
            return Err(refused(message.to_owned()).of_sidecar(&sidecar.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_is_run_together() {
        let sidecars = ["one", "two"].map(|name| Sidecar::new(name, "image"));
        let check = |serving, runs: &[bool]| check_kinds(serving, sidecars.iter().zip(runs.iter().copied()));
        for kind in [
            FunctionKind::Server,
            FunctionKind::Component,
            FunctionKind::Command,
        ] {
            assert_eq!(check(kind, &[]), Ok(()), "{kind:?} alone");
            let together = check(kind, &[true, true]);
            assert_eq!(together.is_ok(), kind.is_resident(), "{kind:?}");
            if let Err(error) = together {
                assert_eq!((error.code, &error.sidecar), (ErrorCode::UnsupportedKind, &None));
                assert!(error.message.contains(r#"["one", "two"]"#), "{error}");
            }
        }
        let error = check(FunctionKind::Server, &[true, false]).unwrap_err();
        assert_eq!(error.sidecar.as_deref(), Some("two"));
        assert!(error.message.starts_with(r#"container "two": "#), "{error}");
    }
}
