//! Logging of the process: structured `tracing` events on standard error.

use crate::cli::LogFormat;
use anyhow::Context;
use lines::Lines;
use std::io::{IsTerminal, Stderr, Write};
use std::sync::{Arc, OnceLock};
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

mod lines;

/// Standard error, once logging was started.
static STANDARD_ERROR: OnceLock<Arc<Lines<Stderr>>> = OnceLock::new();

/// Starts logging. Called once, by `kittiwake up` and by its workers.
///
/// # Errors
/// When `filter` is no filter.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} is not a log filter; try info"))?;
    let mut is_new = false;
    let lines = STANDARD_ERROR.get_or_init(|| {
        is_new = true;
        Arc::new(Lines::new(std::io::stderr()))
    });
    if is_new {
        lines::write_in_time(Arc::clone(lines)).context("cannot start a thread for the log")?;
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Writers(Arc::clone(lines)))
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.with_target(true).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Writes the lines that are kept to be written together. To be called before the process ends.
pub fn flush() {
    if let Some(lines) = STANDARD_ERROR.get() {
        lines.flush();
    }
}

/// Gathers the lines of the access log and writes all others at once.
struct Writers(Arc<Lines<Stderr>>);

/// Takes one line.
struct Writer<'a> {
    lines: &'a Lines<Stderr>,
    gathers: bool,
}

impl<'a> MakeWriter<'a> for Writers {
    type Writer = Writer<'a>;

    fn make_writer(&'a self) -> Writer<'a> {
        Writer {
            lines: &self.0,
            gathers: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Writer<'a> {
        Writer {
            lines: &self.0,
            gathers: metadata.target() == kittiwake_gateway::ACCESS_LOG,
        }
    }
}

impl Write for Writer<'_> {
    /// Takes all of it: a line is formatted before it is written, and written in one go.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.gathers {
            self.lines.gather(line);
        } else {
            self.lines.write(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
