//! `kittiwake simulate`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What is simulated.
#[derive(Debug, Subcommand)]
pub enum Simulate {
    /// Replay a load and print how far the autoscaler would have scaled
    #[command(
        long_about = "Replay a load in virtual time and print, for each decision of the autoscaler, how many instances it wants, \
            whether it panics, and the excess burst capacity. No server is needed.\n\n\
            The load is a JSON object a line. Either calls, each with the second at which it comes in and the seconds that an \
            instance works on it:\n  {\"time\": 12.25, \"duration\": 0.3}\n\
            or what was seen of a revision at a time: ready instances, and the metric over the stable and the panic window:\n  \
            {\"time\": 12, \"ready\": 3, \"stable\": 41.5, \"panic\": 60}\n\
            Empty lines and lines that begin with # are passed over.",
        after_help = "Example: ten calls a second for two minutes, each of half a second, at most 3 under way per instance\n  \
            seq 0 1199 | awk '{print \"{\\\"time\\\": \" $1/10 \", \\\"duration\\\": 0.5}\"}' |\n  \
            kittiwake simulate autoscaler -a target=3 -a window=30s --startup 200ms\n\n\
            docs/autoscaling.md explains the rules and walks through an example."
    )]
    Autoscaler(Box<AutoscalerArgs>),
}

/// `kittiwake simulate autoscaler`.
#[derive(Debug, Clone, Args)]
pub struct AutoscalerArgs {
    /// File with the load; - or nothing reads standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub load: PathBuf,
    /// Annotation of the revision, such as target=50 or autoscaling.knative.dev/minScale=1; may be repeated
    #[arg(short, long = "annotation", value_name = "KEY=VALUE", value_parser = pair)]
    pub annotation: Vec<(String, String)>,
    /// Key of the ConfigMap config-autoscaler, such as stable-window=30s; may be repeated
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = pair)]
    pub config: Vec<(String, String)>,
    /// Calls that one instance takes at a time, as the revision's containerConcurrency; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub container_concurrency: u32,
    /// Instances that are ready when the load begins (calls only)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub ready: u32,
    /// How long an instance takes from its start until it takes calls, such as 5ms or 2s (calls only)
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub startup: std::time::Duration,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: SimulationOutput,
}

/// How a simulation is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SimulationOutput {
    /// A row for each decision, and a summary.
    #[default]
    Table,
    /// A JSON object a line for each decision.
    Json,
    /// A chart, as text of an SVG file.
    Svg,
    /// A chart, as a PNG file.
    Png,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// The longest start of an instance that is simulated.
const STARTUP_MAX: std::time::Duration = std::time::Duration::from_secs(3600);

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let duration: kittiwake_api::duration::GoDuration = text
        .parse()
        .map_err(|error: kittiwake_api::duration::ParseDurationError| error.to_string())?;
    duration
        .to_std()
        .filter(|duration| *duration <= STARTUP_MAX)
        .ok_or_else(|| "it must be within 0s and 1h".to_owned())
}
