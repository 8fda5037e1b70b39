//! Golden transcripts: requests and the replies they must get, as text. `tests/transcripts/README.md` says how to read
//! and write them.

use crate::harness::Api;
use axum::body::Body;
use futures::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use kittiwake_store::ObjectStore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower::ServiceExt;

/// How long a reply that comes "in the end" is waited for; only reached when a transcript does not hold.
const PATIENCE: Duration = Duration::from_secs(20);

/// One conversation with a fresh server.
pub struct Conversation {
    pub title: String,
    directives: Vec<(usize, String)>,
    pub steps: Vec<Step>,
}

/// One request and its reply.
#[derive(Clone, Default)]
pub struct Step {
    line: usize,
    /// What happens before the request: `advance 5m`.
    before: Vec<String>,
    /// Asked again until the reply is as wanted (`?` instead of `>`).
    again: bool,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    status: u16,
    reply_headers: Vec<(String, String)>,
    reply: String,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// Reads a file of conversations.
pub fn parse(text: &str) -> Vec<Conversation> {
    let mut conversations: Vec<Conversation> = Vec::new();
    let mut step = Step::default();
    let mut in_reply = false;
    let header = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header has a colon");
        (name.trim().to_owned(), value.trim().to_owned())
    };
    let finish = |conversations: &mut Vec<Conversation>, step: &mut Step| {
        if !step.method.is_empty() {
            assert!(step.status > 0, "line {}: a request without reply", step.line);
            let done = std::mem::take(step);
            conversations.last_mut().expect("a title first").steps.push(done);
        }
    };
    for (index, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("### ") {
            finish(&mut conversations, &mut step);
            conversations.push(Conversation {
                title: title.to_owned(),
                directives: Vec::new(),
                steps: Vec::new(),
            });
            in_reply = true;
        } else if line.starts_with("# ") || line == "#" {
        } else if let Some(directive) = line.strip_prefix("! ") {
            finish(&mut conversations, &mut step);
            let conversation = conversations.last_mut().expect("a title first");
            if directive.starts_with("history ") {
                conversation.directives.push((index + 1, directive.to_owned()));
            } else {
                step.before.push(directive.to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("> ").or_else(|| line.strip_prefix("? ")) {
            if in_reply || step.method.is_empty() {
                let before = if step.method.is_empty() {
                    std::mem::take(&mut step.before)
                } else {
                    Vec::new()
                };
                finish(&mut conversations, &mut step);
                let (method, path) = rest.split_once(' ').expect("method and path");
                step = Step {
                    line: index + 1,
                    before,
                    again: line.starts_with('?'),
                    method: method.to_owned(),
                    path: path.trim().to_owned(),
                    ..Step::default()
                };
                in_reply = false;
            } else {
                step.headers.push(header(rest));
            }
        } else if let Some(rest) = line.strip_prefix("< ") {
            if in_reply {
                step.reply_headers.push(header(rest));
            } else {
                step.status = rest.trim().parse().expect("a status code");
                in_reply = true;
            }
        } else if !step.method.is_empty() {
            let body = if in_reply { &mut step.reply } else { &mut step.body };
            body.push_str(line);
            body.push('\n');
        }
    }
    finish(&mut conversations, &mut step);
    conversations
}

/// Holds every conversation of a file; fails with all that went differently.
pub async fn hold(topic: &str) {
    let file = folder().join(format!("{topic}.http"));
    let text = std::fs::read_to_string(&file).unwrap();
    let mut failures = String::new();
    for conversation in parse(&text) {
        if let Err(failure) = converse(&conversation).await {
            let _ = writeln!(failures, "\n{topic}.http: {}\n{failure}", conversation.title);
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

async fn converse(conversation: &Conversation) -> Result<(), String> {
    let mut config = kittiwake_store::Config::default();
    for (line, directive) in &conversation.directives {
        let events = directive.strip_prefix("history ").and_then(|n| n.parse().ok());
        config.events_kept = events.ok_or_else(|| format!("line {line}: {directive}?"))?;
    }
    let api = Api::start_with(ObjectStore::in_memory(config)).await;
    let mut names = BTreeMap::new();
    for step in &conversation.steps {
        for directive in &step.before {
            let time = directive.strip_prefix("advance ").and_then(seconds);
            api.clock
                .advance(time.ok_or_else(|| format!("line {}: {directive}?", step.line))?);
        }
        let told = |why: String| format!("  line {}: {} {}\n    {why}", step.line, step.method, step.path);
        let asking = async {
            loop {
                match ask(&api, step, &mut names).await {
                    Err(_) if step.again => tokio::time::sleep(Duration::from_millis(2)).await,
                    result => return result,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(result) => result.map_err(told)?,
            Err(_) => return Err(told("the reply never came".into())),
        }
    }
    Ok(())
}

fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_secs(match unit {
        "s" => number,
        "m" => number * 60,
        "h" => number * 3600,
        _ => return None,
    }))
}

/// Puts in what was remembered (`{{name}}`) and what is long (`{{x * 1000}}`).
pub fn fill(text: &str, names: &BTreeMap<String, String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (word, after) = after.split_once("}}").expect("{{ is closed");
        filled.push_str(before);
        match word.split_once(" * ") {
            Some((part, times)) => filled.push_str(&part.repeat(times.parse().unwrap())),
            None => filled.push_str(
                names
                    .get(word)
                    .unwrap_or_else(|| panic!("{word} is not remembered")),
            ),
        }
        rest = after;
    }
    filled + rest
}

/// The bytes of a body: `hex:` and digits, or the text itself.
pub fn bytes(body: &str) -> Vec<u8> {
    let body = body.trim_end();
    let Some(hex) = body.strip_prefix("hex:") else {
        return body.as_bytes().to_vec();
    };
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

async fn ask(api: &Api, step: &Step, names: &mut BTreeMap<String, String>) -> Result<(), String> {
    let mut request = Request::builder()
        .method(step.method.as_str())
        .uri(fill(&step.path, names).replace(' ', "%20"));
    for (name, value) in &step.headers {
        request = request.header(name, fill(value, names));
    }
    let body = bytes(&fill(&step.body, names));
    if !body.is_empty()
        && !step
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        request = request.header("content-type", "application/json");
    }
    let request = request
        .body(Body::from(body))
        .map_err(|error| error.to_string())?;
    let response = api.handle.router().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let wanted = fill(&step.reply, names);
    let watch = head.status == 200 && (step.path.contains("watch=true") || step.path.contains("watch=1"));
    let text = if watch {
        events(
            body,
            wanted.lines().filter(|line| !line.trim().is_empty()).count(),
        )
        .await?
    } else {
        let bytes = body.collect().await.unwrap().to_bytes();
        unpack(&head.headers, &bytes)?
    };
    if head.status.as_u16() != step.status {
        return Err(format!(
            "wanted {}, got {}: {text}",
            step.status,
            head.status.as_u16()
        ));
    }
    for (name, wanted) in &step.reply_headers {
        let wanted = fill(wanted, names);
        let given: Vec<&str> = head
            .headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        let fits = match wanted.as_str() {
            "<absent>" => given.is_empty(),
            "<any>" => !given.is_empty(),
            wanted => match wanted
                .strip_prefix("<as ")
                .and_then(|name| name.strip_suffix('>'))
            {
                Some(remembered) => given
                    .first()
                    .map(|value| names.insert(remembered.to_owned(), (*value).to_owned()))
                    .is_some(),
                None => given.contains(&wanted),
            },
        };
        if !fits {
            return Err(format!("header {name}: wanted {wanted}, got {given:?}"));
        }
    }
    compare(&wanted, &text, watch, names).map_err(|why| format!("{why}\n    in {text}"))
}

/// So many events of a watch, one a line. `<end>` as the last wanted line waits for the end.
async fn events(body: Body, wanted: usize) -> Result<String, String> {
    let mut stream = body.into_data_stream();
    let mut text = String::new();
    while text.lines().count() < wanted {
        match tokio::time::timeout(PATIENCE, stream.next()).await {
            Err(_) => return Err(format!("no event came after {text}")),
            Ok(None) => {
                text.push_str("<end>");
                break;
            }
            Ok(Some(chunk)) => text.push_str(&String::from_utf8_lossy(&chunk.unwrap())),
        }
    }
    Ok(text.lines().take(wanted).collect::<Vec<_>>().join("\n"))
}

fn unpack(headers: &HeaderMap, bytes: &[u8]) -> Result<String, String> {
    if headers
        .get("content-encoding")
        .is_none_or(|encoding| encoding != "gzip")
    {
        return Ok(String::from_utf8_lossy(bytes).into_owned());
    }
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    decoder
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

fn compare(
    wanted: &str,
    text: &str,
    watch: bool,
    names: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let wanted = wanted.trim();
    if wanted.is_empty() {
        return Ok(());
    }
    if watch {
        let lines = wanted.lines().filter(|line| !line.trim().is_empty());
        return lines
            .zip(text.lines())
            .try_for_each(|(wanted, line)| match (wanted.trim(), line) {
                ("<end>", "<end>") => Ok(()),
                (wanted, line) => json(wanted, line, names),
            });
    }
    if let Some(exact) = wanted.strip_prefix("text:") {
        let same = exact.trim() == text.trim();
        return same
            .then_some(())
            .ok_or_else(|| format!("wanted the text {exact}"));
    }
    json(wanted, text, names)
}

fn json(wanted: &str, text: &str, names: &mut BTreeMap<String, String>) -> Result<(), String> {
    let wanted: Value =
        serde_json::from_str(wanted).map_err(|error| format!("the transcript: {error}: {wanted}"))?;
    let given: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    fit(&wanted, Some(&given), "", names)
}

/// Whether a value is as a pattern says: objects may hold more than is written, lists may not.
fn fit(
    wanted: &Value,
    given: Option<&Value>,
    path: &str,
    names: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let differs = || {
        Err(format!(
            "{path}: wanted {wanted}, got {}",
            given.unwrap_or(&Value::Null)
        ))
    };
    match (wanted, given) {
        (Value::String(pattern), given) if pattern.starts_with('<') && pattern.ends_with('>') => {
            let text = given.and_then(Value::as_str).unwrap_or_default();
            let inner = pattern.trim_start_matches('<').trim_end_matches('>');
            let fits = match inner.split_once(' ') {
                None if inner == "any" => given.is_some(),
                None if inner == "absent" => given.is_none(),
                None if inner == "uid" => text.len() == 36,
                None if inner == "version" => text.parse::<u64>().is_ok(),
                Some(("has", part)) => text.contains(part),
                Some(("starts", part)) => text.starts_with(part),
                Some(("as", name)) => {
                    names.insert(name.to_owned(), text.to_owned());
                    !text.is_empty()
                }
                _ => text == pattern,
            };
            if fits { Ok(()) } else { differs() }
        }
        (Value::Object(wanted), Some(Value::Object(given))) => {
            if wanted.contains_key("<only>")
                && let Some(more) = given.keys().find(|key| !wanted.contains_key(*key))
            {
                return Err(format!("{path}: {more} is there too"));
            }
            let parts = wanted.iter().filter(|(key, _)| *key != "<only>");
            let mut parts =
                parts.map(|(key, wanted)| fit(wanted, given.get(key), &format!("{path}.{key}"), names));
            parts.try_for_each(|result| result)
        }
        (Value::Array(wanted), Some(Value::Array(given))) if wanted.len() == given.len() => {
            let mut parts = wanted
                .iter()
                .zip(given)
                .enumerate()
                .map(|(index, (wanted, given))| fit(wanted, Some(given), &format!("{path}[{index}]"), names));
            parts.try_for_each(|result| result)
        }
        (wanted, Some(given)) if wanted == given => Ok(()),
        _ => differs(),
    }
}
