//! Instructions of the hot path, counted by callgrind and compared with a file: unlike times they hardly differ from run
//! to run, so a small change for the worse is seen when it is made.

use crate::Paths;
use crate::report::Report;
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use tokio::process::Command;

/// Calls of the shorter and the longer run; start and warm-up, which both have, cancel out.
const CALLS: [usize; 2] = [100, 600];
/// Changes up to this much, in percent, are not mentioned.
const NOTED_PERCENT: f64 = 2.0;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// The file to compare with
    #[arg(long, default_value = "benches/instructions.json")]
    pub file: PathBuf,
    /// Write what was counted into the file
    #[arg(long)]
    pub update: bool,
}

/// Counts, compares, prints. A change is shown, not refused: whether it is worth it is for people to say.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    if !crate::programs::installed("valgrind") {
        bail!("valgrind is not installed; it is a package of the system");
    }
    let known: Map<String, Value> = match std::fs::read(&options.file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| options.file.display().to_string())?,
        Err(_) => Map::new(),
    };
    println!("\nInstructions of one call in process (callgrind)");
    let mut counted = Map::new();
    for (name, kind) in [
        ("fresh instance", &["--isolation", "request"][..]),
        ("kept instance", &["--isolation", "serial"]),
        ("fresh component", &["--isolation", "request", "--as-component"]),
        ("kept component", &["--isolation", "serial", "--as-component"]),
        ("function from zero", &["--isolation", "request", "--from-zero"]),
    ] {
        let (few, many) = (
            count(options, kind, CALLS[0]).await?,
            count(options, kind, CALLS[1]).await?,
        );
        let each = many.saturating_sub(few) / (CALLS[1] - CALLS[0]) as u64;
        let before = known.get(name).and_then(Value::as_u64);
        println!("{name:<20} {each:>10}   {}", compared(each, before));
        report.add(json!({"bench": "instructions", "what": name, "per_call": each, "before": before}));
        counted.insert(name.to_owned(), each.into());
    }
    if options.update {
        let text = serde_json::to_string_pretty(&counted)? + "\n";
        std::fs::write(&options.file, text)
            .with_context(|| format!("cannot write {}", options.file.display()))?;
    }
    Ok(())
}

fn compared(now: u64, before: Option<u64>) -> String {
    let Some(before) = before.filter(|before| *before > 0) else {
        return "(nothing to compare with)".to_owned();
    };
    let percent = (now as f64 / before as f64 - 1.0) * 100.0;
    match percent.abs() > NOTED_PERCENT {
        true => {
            format!("CHANGED by {percent:+.1} % from {before}: if that is meant, run again with --update")
        }
        false => format!("{percent:+.1} % from {before}"),
    }
}

/// All instructions of this program making so many calls of a kind.
async fn count(options: &Options, kind: &[&str], calls: usize) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["call", "--instances", "2"])
        .args(kind)
        .args(["--calls", &calls.to_string(), "--component"])
        .arg(&options.paths.component)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed: {text}");
    }
    total(&std::fs::read_to_string(&file)?).context("callgrind wrote no total")
}

/// The total of a callgrind file.
fn total(file: &str) -> Option<u64> {
    let line = file
        .lines()
        .find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_and_changes_are_told() {
        assert_eq!(total("events: Ir\nfn=x\n1 2\ntotals: 123\n"), Some(123));
        assert_eq!(total("nothing"), None);
        assert!(compared(1030, Some(1000)).starts_with("CHANGED by +3.0 %"));
        assert_eq!(compared(990, Some(1000)), "-1.0 % from 1000");
        assert!(compared(1, None).contains("nothing"));
    }
}
