//! A session with a client: a file of commands, and what each of them printed, compared with what is stored.
//!
//! A line `$ words` must succeed, `! words` must fail, `? words` is tried until it succeeds. `@1.32` before one leaves it
//! out for older clients. `# text` is a remark. What differs from run to run (addresses, folders, ages, ids, times) is
//! replaced by a word before it is compared.

use crate::program::{Program, root};
use kittiwake_testkit::platform::TestPlatform;
use regex::Regex;
use std::fmt::Write;
use std::time::Duration;

/// Tries of a `?` command, and the pause between two of them.
const TRIES_MAX: usize = 100;
const PAUSE: Duration = Duration::from_millis(200);

/// Runs the commands of a session; `version` is that of the client, such as 1.32.
pub async fn run(program: &Program, platform: &TestPlatform, commands: &str, version: f64) -> String {
    let tidy = Tidy::new(platform);
    let folder = platform.folder().display().to_string();
    let mut transcript = String::new();
    for line in commands.lines().map(str::trim) {
        let (since, line) = match line.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            Some((since, line)) => (since.parse().unwrap(), line),
            None => (0.0, line),
        };
        if line.is_empty() || line.starts_with('#') || version < since {
            continue;
        }
        let (mode, words) = line.split_once(' ').expect("a mode and a command");
        let words = words_of(words);
        let mut output = program.run(&words).await;
        for _ in 0..TRIES_MAX {
            if output.ok || mode != "?" {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            output = program.run(&words).await;
        }
        assert_eq!(
            output.ok,
            mode != "!",
            "{line}\n{}\nafter:\n{transcript}",
            output.text
        );
        let _ = writeln!(
            transcript,
            "{}\n{}",
            line.replace(&folder, "[folder]"),
            tidy.text(&output.text)
        );
    }
    transcript
}

/// The commands of a session, from `tests/clients/flows`.
pub fn read(name: &str) -> String {
    let file = root().join("crates/kittiwake/tests/clients/flows").join(name);
    std::fs::read_to_string(file).unwrap()
}

/// The words of a command; single quotes hold blanks together.
fn words_of(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Replaces what differs from run to run.
struct Tidy(Vec<(Regex, &'static str)>);

impl Tidy {
    fn new(platform: &TestPlatform) -> Self {
        let folder = regex::escape(&platform.folder().display().to_string());
        let (api, gateway) = (platform.api(), platform.gateway().port());
        let rules = [
            (folder, "[folder]"),
            (
                format!("https?://{}", regex::escape(&api.to_string())),
                "[server]",
            ),
            (regex::escape(&api.to_string()), "[server]"),
            (format!(":{gateway}"), ":[port]"),
            (
                "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".to_owned(),
                "[uid]",
            ),
            // What kn prints while it waits: how much depends on how fast things go.
            (r"(?m)^ +\d+\.\d+s .*\n".to_owned(), ""),
            (r"(LIVE|MERGED)-\d+".to_owned(), "$1"),
            (
                r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}".to_owned(),
                "[time]",
            ),
            ("sha256:[0-9a-f]{64}".to_owned(), "[digest]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z".to_owned(), "[time]"),
            (r#"(?i)(resourceVersion:? *"?)\d+"#.to_owned(), "${1}[version]"),
            (r"\b(\d+m)?\d+(\.\d+)?m?s\b( +)?".to_owned(), "[age] "),
            ("pinned to [0-9a-f]{6}".to_owned(), "pinned to [digest]"),
            (r"(Replicas: +)\d+/\d+".to_owned(), "${1}[number]"),
            // Columns are as wide as what stands in them.
            (r"(?m)[ \t]+$".to_owned(), ""),
            (r"(\S) {2,}".to_owned(), "${1}  "),
        ];
        Self(
            rules
                .map(|(pattern, word)| (Regex::new(&pattern).unwrap(), word))
                .into(),
        )
    }

    fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (pattern, word)| {
            pattern.replace_all(&text, *word).into_owned()
        })
    }
}
