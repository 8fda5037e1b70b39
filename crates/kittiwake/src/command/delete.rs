//! `kittiwake delete`.

use super::get::split_kind_and_names;
use crate::cli::DeleteArgs;
use crate::client::{Connection, is_status};
use crate::manifest;
use crate::resource::{Resource, Resources};
use anyhow::bail;
use http::Method;
use serde_json::Value;
use std::process::ExitCode;

/// Runs the command.
///
/// # Errors
/// When an object does not exist (unless that is allowed) or the server refuses.
pub async fn run(args: DeleteArgs) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(&args.connect).await?;
    let resources = Resources::discover(&connection).await?;
    let mut failed = false;
    for (resource, namespace, name) in doomed(&args, &connection, &resources).await? {
        let path = resource.object(&namespace, &name);
        let body = br#"{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}"#.to_vec();
        match connection
            .json(
                Method::DELETE,
                &path,
                "application/json",
                "application/json",
                body,
            )
            .await
        {
            Ok(_) => crate::outln!("{} deleted", resource.display(&name)),
            Err(error) if args.ignore_not_found && is_status(&error, 404) => {}
            Err(error) => {
                eprintln!("error: {error:#}");
                failed = true;
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What to delete: kind, namespace, name.
async fn doomed<'r>(
    args: &DeleteArgs,
    connection: &Connection,
    resources: &'r Resources,
) -> anyhow::Result<Vec<(&'r Resource, String, String)>> {
    let mut doomed = Vec::new();
    if !args.filename.is_empty() {
        // In reverse, so that what was applied first (a namespace, say) goes last.
        for manifest in manifest::read_all(&args.filename)?.iter().rev() {
            let resource = resources.of(manifest.api_version(), manifest.kind())?;
            let namespace = manifest.namespace().unwrap_or(&connection.namespace).to_owned();
            doomed.push((resource, namespace, manifest.name().to_owned()));
        }
        return Ok(doomed);
    }
    let (kinds, names) = split_kind_and_names(args.kind.as_deref().unwrap_or_default(), &args.names)?;
    if names.is_empty() && !args.all {
        bail!("name the objects to delete, or say --all");
    }
    for kind in kinds.split(',') {
        for resource in resources.find(kind)? {
            if args.all {
                let list = connection
                    .get(&resource.collection(Some(&connection.namespace)))
                    .await?;
                let items = list
                    .get("items")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                let found = items
                    .iter()
                    .filter_map(|item| item.pointer("/metadata/name").and_then(Value::as_str));
                doomed.extend(found.map(|name| (resource, connection.namespace.clone(), name.to_owned())));
            } else {
                doomed.extend(
                    names
                        .iter()
                        .map(|name| (resource, connection.namespace.clone(), name.clone())),
                );
            }
        }
    }
    Ok(doomed)
}
