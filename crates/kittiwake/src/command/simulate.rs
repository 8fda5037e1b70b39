//! `kittiwake simulate`: tries settings of the autoscaler on a load, without a server.

pub mod chart;
pub mod picture;
pub mod print;
pub mod settings;

use crate::cli::simulate::{AutoscalerArgs, Simulate, SimulationOutput};
use anyhow::{Context, bail};
use kittiwake_autoscaler::simulation::input::{self, Load};
use kittiwake_autoscaler::simulation::{calls, observed};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

/// Runs the command.
///
/// # Errors
/// When a setting or a line of the load is wrong; the message names it.
pub fn run(args: &Simulate) -> anyhow::Result<ExitCode> {
    let Simulate::Autoscaler(args) = args;
    autoscaler(args)
}

fn autoscaler(args: &AutoscalerArgs) -> anyhow::Result<ExitCode> {
    if args.output == SimulationOutput::Png && stdout().is_terminal() {
        bail!("a PNG file is no text for a terminal: redirect it, such as with > scale.png");
    }
    let setup = settings::setup(args)?;
    let (ticks, run) = match read(&args.load)? {
        Load::Seen(samples) => (observed::replay(&setup, &samples), None),
        Load::Calls(load) => {
            let mut run = calls::replay(&setup, &load);
            (std::mem::take(&mut run.ticks), Some(run))
        }
    };
    match args.output {
        SimulationOutput::Table => print::table(&ticks, run.as_ref()),
        SimulationOutput::Json => print::json(&ticks)?,
        SimulationOutput::Svg => crate::out!("{}", chart::draw(&ticks, &setup).svg()),
        SimulationOutput::Png => crate::output::bytes(&chart::draw(&ticks, &setup).png()?),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<Load> {
    let (reader, name): (Box<dyn BufRead>, _) = if path == Path::new("-") {
        if stdin().is_terminal() {
            tracing::warn!("reading the load from the terminal; end it with Ctrl-D");
        }
        (Box::new(stdin().lock()), "standard input".to_owned())
    } else {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        (Box::new(BufReader::new(file)), name)
    };
    input::read(reader).with_context(|| name)
}
