//! A simulation as a table, or as JSON lines.

use crate::table::Table;
use kittiwake_autoscaler::simulation::Tick;
use kittiwake_autoscaler::simulation::calls::Run;
use serde_json::json;
use std::fmt::Write;

/// Prints a row for each decision and, below, what became of the calls.
pub fn table(ticks: &[Tick], run: Option<&Run>) {
    crate::out!("{}", rendered(ticks).render(true));
    if let Some(run) = run {
        crate::out!("\n{}", summary(run));
    }
}

fn rendered(ticks: &[Tick]) -> Table {
    let headers = [
        "TIME",
        "READY",
        "STARTING",
        "WAITING",
        "STABLE",
        "PANIC",
        "DESIRED",
        "SCALE",
        "MODE",
        "EXCESS-BURST",
    ];
    Table {
        headers: headers.map(str::to_owned).to_vec(),
        rows: ticks.iter().map(row).collect(),
    }
}

fn row(tick: &Tick) -> Vec<String> {
    vec![
        format!("{:.1}", tick.time),
        tick.ready.to_string(),
        tick.starting.to_string(),
        tick.waiting.to_string(),
        format!("{:.2}", tick.stable),
        format!("{:.2}", tick.panic),
        tick.desired.to_string(),
        tick.scale.to_string(),
        if tick.panicking { "panic" } else { "stable" }.to_owned(),
        tick.excess_burst_capacity.to_string(),
    ]
}

fn summary(run: &Run) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Calls: {}, of which {} waited for an instance; wait p50 {:.3} s, p99 {:.3} s, longest {:.3} s",
        run.calls,
        run.waited,
        run.wait_percentile(50),
        run.wait_percentile(99),
        run.wait_percentile(100)
    );
    let _ = writeln!(
        text,
        "Instances: at most {}, {:.0} instance-seconds",
        run.instances_most, run.instance_seconds
    );
    text
}

/// Prints a JSON object a line for each decision.
///
/// # Errors
/// Never, as far as is known: numbers and words can be encoded.
pub fn json(ticks: &[Tick]) -> anyhow::Result<()> {
    for tick in ticks {
        let line = json!({
            "time": tick.time,
            "ready": tick.ready,
            "starting": tick.starting,
            "waiting": tick.waiting,
            "stable": tick.stable,
            "panic": tick.panic,
            "desired": tick.desired,
            "scale": tick.scale,
            "panicking": tick.panicking,
            "excessBurstCapacity": tick.excess_burst_capacity,
        });
        crate::outln!("{}", serde_json::to_string(&line)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_decision() {
        let tick = Tick {
            time: 2.0,
            ready: 1,
            starting: 2,
            waiting: 3,
            stable: 4.5,
            panic: 60.125,
            desired: 7,
            scale: 5,
            panicking: true,
            excess_burst_capacity: -261,
        };
        let wanted = "TIME   READY   STARTING   WAITING   STABLE   PANIC   DESIRED   SCALE   MODE    EXCESS-BURST\n\
                      2.0    1       2          3         4.50     60.12   7         5       panic   -261\n";
        assert_eq!(rendered(&[tick]).render(true), wanted);
    }
}
