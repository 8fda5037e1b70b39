//! `kittiwake apply -f`: create or update objects by server-side apply, then wait until they are ready.

use crate::cli::{ApplyArgs, Output};
use crate::client::{Connection, is_status};
use crate::manifest::{self, Manifest};
use crate::resource::Resources;
use crate::wait::{self, Outcome, Readiness, Target};
use anyhow::Context;
use http::Method;
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// The field manager of this command. Kept apart from kubectl's, whose fields it takes over when it changes them.
pub const FIELD_MANAGER: &str = "kittiwake";

/// Where kubectl keeps what it applied last (kubectl's `pkg/util/apply.go`).
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What `apply` did with one object.
#[derive(Debug)]
pub struct Applied {
    /// The object as the server now has it.
    pub object: Value,
    /// `created`, `configured` or `unchanged`.
    pub verb: &'static str,
    /// How and where to find it.
    pub target: Target,
    /// Warnings of the server.
    pub warnings: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, the server refuses an object or cannot be reached.
pub async fn run(args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let manifests = manifest::read_all(&args.filename)?;
    let connection = Connection::open(&args.connect).await?;
    let resources = Resources::discover(&connection).await?;
    let mut targets = Vec::new();
    let mut objects = Vec::new();
    let mut failed = false;
    for manifest in &manifests {
        match apply(&connection, &resources, manifest, args.dry_run).await {
            Ok(applied) => {
                for warning in &applied.warnings {
                    eprintln!("Warning: {warning}");
                }
                if args.output.is_none() {
                    let note = if args.dry_run { " (server dry run)" } else { "" };
                    crate::outln!("{} {}{note}", applied.target.display, applied.verb);
                }
                objects.push(applied.object);
                targets.push(applied.target);
            }
            Err(error) => {
                // One refused object does not keep the others from being applied, as with kubectl.
                eprintln!("error: {}: {error:#}", manifest.origin);
                failed = true;
            }
        }
    }
    if let Some(output) = args.output {
        super::get::print_objects(&objects, output)?;
    }
    if args.no_wait || args.dry_run {
        return Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    let outcomes = wait::wait(&connection, &targets, Duration::from_secs(args.wait_timeout)).await?;
    let ready = report(
        &outcomes,
        args.output.is_none_or(|output| output == Output::Table),
    );
    Ok(if failed || !ready {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Applies one object.
///
/// # Errors
/// When the server refuses it or cannot be reached.
pub async fn apply(
    connection: &Connection,
    resources: &Resources,
    manifest: &Manifest,
    dry_run: bool,
) -> anyhow::Result<Applied> {
    let resource = resources.of(manifest.api_version(), manifest.kind())?;
    let namespace = manifest.namespace().unwrap_or(&connection.namespace);
    let path = resource.object(namespace, manifest.name());
    let before = match connection.get(&path).await {
        Ok(object) => Some(object),
        Err(error) if is_status(&error, 404) => None,
        Err(error) => return Err(error),
    };
    let dry = if dry_run { "&dryRun=All" } else { "" };
    let url = format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force=true{dry}");
    let body =
        serde_json::to_vec(&with_last_applied(&manifest.object)).context("cannot encode the manifest")?;
    let answer = connection
        .json(
            Method::PATCH,
            &url,
            "application/apply-patch+yaml",
            "application/json",
            body,
        )
        .await?;
    let verb = match before.map(wanted) {
        _ if answer.created => "created",
        Some(before) if before == wanted(answer.value.clone()) => "unchanged",
        Some(_) => "configured",
        None => "created",
    };
    let target = Target {
        display: resource.display(manifest.name()),
        path,
    };
    Ok(Applied {
        object: answer.value,
        verb,
        target,
        warnings: answer.warnings,
    })
}

/// The object with kubectl's note of what was applied last, so that a later `kubectl apply` continues from here.
fn with_last_applied(object: &Value) -> Value {
    let mut noted = object.clone();
    let annotations = noted
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .map(|metadata| {
            metadata
                .entry("annotations")
                .or_insert_with(|| Value::Object(serde_json::Map::new()))
        });
    if let Some(Value::Object(annotations)) = annotations {
        annotations.shift_remove(LAST_APPLIED);
    }
    let text = format!("{noted}\n");
    if let Some(Value::Object(annotations)) = noted.pointer_mut("/metadata/annotations") {
        annotations.insert(LAST_APPLIED.to_owned(), Value::String(text));
    }
    noted
}

/// Prints how the waiting ended; true when everything is ready.
pub fn report(outcomes: &[Outcome], print: bool) -> bool {
    let mut all_ready = true;
    for outcome in outcomes {
        match &outcome.readiness {
            Readiness::Ready { url: Some(url) } if print => {
                crate::sayln!("{} is ready at {url}", outcome.display)
            }
            Readiness::Ready { .. } | Readiness::Unconditional => {}
            Readiness::Failed { why } => {
                eprintln!("{} is not ready: {why}", outcome.display);
                all_ready = false;
            }
            Readiness::Pending { what } => {
                eprintln!("{} is still not ready: {what}", outcome.display);
                all_ready = false;
            }
        }
    }
    all_ready
}

/// An object without what the platform writes beside its user: a controller may have written between two looks.
fn wanted(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.shift_remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("resourceVersion");
        metadata.shift_remove("managedFields");
    }
    object
}
