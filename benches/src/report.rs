//! Where results go besides the terminal: one JSON file with all of them, and a chart for each table.

use crate::chart::Chart;
use anyhow::Context;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Files to write.
#[derive(clap::Args, Clone)]
pub struct Files {
    /// Also write all figures to this file, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw charts (SVG) into this folder
    #[arg(long, global = true, value_name = "DIR")]
    charts: Option<PathBuf>,
}

/// Results of this run of the program.
pub struct Report {
    files: Files,
    machine: Value,
    results: Vec<Value>,
}

impl Report {
    /// Notes what machine this is, and prints it.
    pub fn start(files: Files) -> anyhow::Result<Self> {
        if let Some(folder) = &files.charts {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let machine = machine();
        println!("{}", machine_line(&machine));
        Ok(Self {
            files,
            machine,
            results: Vec::new(),
        })
    }

    /// Adds a table's figures.
    pub fn add(&mut self, result: Value) {
        self.results.push(result);
    }

    /// Draws a chart, if charts are wanted.
    pub fn draw(&self, name: &str, chart: &Chart) -> anyhow::Result<()> {
        let Some(folder) = &self.files.charts else {
            return Ok(());
        };
        let path = folder.join(format!("{name}.svg"));
        std::fs::write(&path, chart.svg()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes the JSON file, if it is wanted.
    pub fn finish(self) -> anyhow::Result<()> {
        let Some(path) = &self.files.json else {
            return Ok(());
        };
        let all = json!({"machine": self.machine, "results": self.results});
        std::fs::write(path, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What a reader must know of the machine to read the figures.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": value(&read("/proc/cpuinfo"), "model name"),
        "memory": value(&read("/proc/meminfo"), "MemTotal"),
        "kernel": format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        "load_before": read("/proc/loadavg").split(' ').next(),
    })
}

fn machine_line(machine: &Value) -> String {
    let text = |key: &str| match machine.get(key) {
        Some(Value::String(text)) => text.clone(),
        other => other.map(Value::to_string).unwrap_or_default(),
    };
    format!(
        "{} cores of {}, {}, {}; load average before: {}",
        text("cores"),
        text("processor"),
        text("memory"),
        text("kernel"),
        text("load_before"),
    )
}
