//! `kittiwake get`: tables, objects, watches.

use crate::cli::{GetArgs, Output};
use crate::client::Connection;
use crate::resource::{Resource, Resources};
use crate::table::Table;
use anyhow::{Context, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Runs the command.
///
/// # Errors
/// When a kind or object does not exist or the server cannot be reached.
pub async fn run(args: GetArgs) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(&args.connect).await?;
    let resources = Resources::discover(&connection).await?;
    let (kinds, names) = split_kind_and_names(&args.kinds, &args.names)?;
    let mut found = Vec::new();
    for kind in kinds.split(',') {
        found.extend(resources.find(kind)?);
    }
    if args.watch && (found.len() != 1 || names.len() > 1) {
        bail!("--watch follows one kind, all of its objects or one of them");
    }
    if args.watch && !matches!(args.output, Output::Table | Output::Wide) {
        bail!("--watch prints tables: leave out --output, or use --output wide");
    }
    let queries: Vec<Query> = found
        .iter()
        .flat_map(|resource| {
            let names: Vec<Option<&String>> = if names.is_empty() {
                vec![None]
            } else {
                names.iter().map(Some).collect()
            };
            names.into_iter().map(|name| Query {
                resource,
                name: name.map(String::as_str),
            })
        })
        .collect();
    match args.output {
        Output::Table | Output::Wide => print_tables(&connection, &args, &queries).await,
        output => {
            let mut objects = Vec::new();
            for query in &queries {
                let answer = connection.get(&query.path(&connection, &args)).await?;
                match answer.get("items").and_then(Value::as_array) {
                    Some(items) if query.name.is_none() => {
                        objects.extend(items.iter().map(|item| with_type(item, &answer)))
                    }
                    _ => objects.push(answer),
                }
            }
            print_objects(&objects, output)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `KIND NAME…` or `KIND/NAME`.
pub(super) fn split_kind_and_names(kinds: &str, names: &[String]) -> anyhow::Result<(String, Vec<String>)> {
    match kinds.split_once('/') {
        Some((kind, name)) if names.is_empty() && !name.is_empty() => {
            Ok((kind.to_owned(), vec![name.to_owned()]))
        }
        Some(_) => {
            bail!("write one KIND/NAME, or a KIND and then its names: {kinds} cannot be combined with more")
        }
        None => Ok((kinds.to_owned(), names.to_vec())),
    }
}

struct Query<'a> {
    resource: &'a Resource,
    name: Option<&'a str>,
}

impl Query<'_> {
    fn path(&self, connection: &Connection, args: &GetArgs) -> String {
        match self.name {
            Some(name) => self.resource.object(&connection.namespace, name),
            None => {
                let namespace = (!args.all_namespaces).then_some(connection.namespace.as_str());
                let path = self.resource.collection(namespace);
                match &args.selector {
                    Some(selector) => format!("{path}?labelSelector={}", percent_encode(selector)),
                    None => path,
                }
            }
        }
    }
}

async fn print_tables(
    connection: &Connection,
    args: &GetArgs,
    queries: &[Query<'_>],
) -> anyhow::Result<ExitCode> {
    let wide = args.output == Output::Wide;
    let mut printed = false;
    let mut version = Value::Null;
    let mut widths = Vec::new();
    for query in queries {
        if query.name.is_none() {
            widths.clear();
        }
        let answer = connection
            .json(
                Method::GET,
                &query.path(connection, args),
                "application/json",
                TABLE,
                Vec::new(),
            )
            .await?;
        version = answer
            .value
            .pointer("/metadata/resourceVersion")
            .cloned()
            .unwrap_or_default();
        let mut table = Table::from_server(&answer.value, wide, args.all_namespaces);
        if table.rows.is_empty() {
            continue;
        }
        if queries.len() > 1 {
            prefix_names(&mut table, query.resource, args.all_namespaces);
        }
        if printed && query.name.is_none() {
            crate::outln!();
        }
        crate::out!(
            "{}",
            table.render_aligned(!(printed && query.name.is_some()), &mut widths)
        );
        printed = true;
    }
    if args.watch
        && let Some(query) = queries.first()
    {
        watch(
            connection,
            args,
            query,
            version.as_str().unwrap_or_default(),
            !printed,
            widths,
        )
        .await?;
        return Ok(ExitCode::SUCCESS);
    }
    if !printed {
        let place = if args.all_namespaces {
            String::new()
        } else {
            format!(" in {} namespace", connection.namespace)
        };
        eprintln!("No resources found{place}.");
    }
    Ok(ExitCode::SUCCESS)
}

/// With several kinds the name alone is ambiguous: `service.serving.knative.dev/hello`.
fn prefix_names(table: &mut Table, resource: &Resource, namespaces: bool) {
    for row in &mut table.rows {
        if let Some(name) = row.get_mut(usize::from(namespaces)) {
            *name = resource.display(name);
        }
    }
}

async fn watch(
    connection: &Connection,
    args: &GetArgs,
    query: &Query<'_>,
    version: &str,
    mut with_headers: bool,
    mut widths: Vec<usize>,
) -> anyhow::Result<()> {
    let namespace = (!args.all_namespaces).then_some(connection.namespace.as_str());
    let mut path = format!(
        "{}?watch=true&resourceVersion={version}",
        query.resource.collection(namespace)
    );
    if let Some(name) = query.name {
        path.push_str(&format!("&fieldSelector=metadata.name%3D{name}"));
    }
    if let Some(selector) = &args.selector {
        path.push_str(&format!("&labelSelector={}", percent_encode(selector)));
    }
    let request = http::Request::get(path)
        .header(http::header::ACCEPT, TABLE)
        .body(Vec::new())
        .context("cannot make the request")?;
    let lines = connection
        .client
        .request_stream(request)
        .await
        .context("the watch was refused")?;
    let mut lines = std::pin::pin!(lines.lines());
    while let Some(line) = lines.try_next().await.context("the watch broke off")? {
        let event: Value = serde_json::from_str(&line).context("the watch sent no JSON")?;
        let object = event.get("object").cloned().unwrap_or_default();
        match event.get("type").and_then(Value::as_str) {
            Some("ERROR") => bail!(
                "{}",
                object
                    .get("message")
                    .and_then(Value::as_str)
                    .unwrap_or("the watch failed")
            ),
            Some("BOOKMARK") | None => {}
            Some(_) => {
                let table = Table::from_server(&object, args.output == Output::Wide, args.all_namespaces);
                crate::out!("{}", table.render_aligned(with_headers, &mut widths));
                with_headers = false;
            }
        }
    }
    Ok(())
}

/// Items of a list carry no apiVersion and kind of their own on some servers.
fn with_type(item: &Value, list: &Value) -> Value {
    let mut typed = serde_json::Map::new();
    let kind = list.get("kind").and_then(Value::as_str).unwrap_or_default();
    typed.insert(
        "apiVersion".to_owned(),
        list.get("apiVersion").cloned().unwrap_or_default(),
    );
    typed.insert(
        "kind".to_owned(),
        json!(kind.strip_suffix("List").unwrap_or(kind)),
    );
    if let Some(fields) = item.as_object() {
        typed.extend(fields.clone());
    }
    Value::Object(typed)
}

/// Prints objects as YAML, JSON or names: one as itself, several as a `List`.
///
/// # Errors
/// When an object cannot be encoded.
pub fn print_objects(objects: &[Value], output: Output) -> anyhow::Result<()> {
    if output == Output::Name {
        for object in objects {
            let kind = object
                .get("kind")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_lowercase();
            let group = object
                .get("apiVersion")
                .and_then(Value::as_str)
                .and_then(|version| version.split_once('/'));
            let name = object
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            match group {
                Some((group, _)) => crate::outln!("{kind}.{group}/{name}"),
                None => crate::outln!("{kind}/{name}"),
            }
        }
        return Ok(());
    }
    let shown = match objects {
        [object] => object.clone(),
        objects => {
            json!({"apiVersion": "v1", "kind": "List", "items": objects, "metadata": {"resourceVersion": ""}})
        }
    };
    match output {
        Output::Json => crate::outln!(
            "{}",
            serde_json::to_string_pretty(&without_managed_fields(shown)).context("cannot print JSON")?
        ),
        _ => crate::out!(
            "{}",
            serde_yaml_ng::to_string(&without_managed_fields(shown)).context("cannot print YAML")?
        ),
    }
    Ok(())
}

/// Who owns which field is noise to a reader (kubectl hides it as well).
fn without_managed_fields(mut value: Value) -> Value {
    let strip = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("managedFields");
        }
    };
    strip(&mut value);
    for item in value
        .get_mut("items")
        .and_then(Value::as_array_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default()
    {
        strip(item);
    }
    value
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_a_name_come_in_two_forms() {
        let names = ["a".to_owned()];
        assert_eq!(
            split_kind_and_names("ksvc/a", &[]).unwrap(),
            ("ksvc".to_owned(), vec!["a".to_owned()])
        );
        assert_eq!(
            split_kind_and_names("ksvc", &names).unwrap(),
            ("ksvc".to_owned(), names.to_vec())
        );
        assert!(split_kind_and_names("ksvc/a", &names).is_err());
        assert!(split_kind_and_names("ksvc/", &[]).is_err());
    }

    #[test]
    fn selectors_are_encoded() {
        assert_eq!(
            percent_encode("app in (a,b),tier!=x"),
            "app%20in%20%28a%2Cb%29%2Ctier%21%3Dx"
        );
    }
}
