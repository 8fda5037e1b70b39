//! First calls of many kinds, as percentiles.

use crate::chart::{Bar, Chart, Group};
use crate::report::Report;
use crate::statistics::{Spread, micros, percentile};
use serde_json::json;
use std::time::Duration;

/// Rows in the order they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// Sorted.
    samples: Vec<Duration>,
}

impl Row {
    fn at(&self, percent: f64) -> f64 {
        micros(percentile(&self.samples, percent))
    }
}

impl Table {
    pub fn add(&mut self, name: impl Into<String>, mut samples: Vec<Duration>) {
        samples.sort_unstable();
        self.rows.push(Row {
            name: name.into(),
            samples,
        });
    }

    pub fn print(&self) {
        println!(
            "\n{:<48} {:>6} {:>10} {:>10} {:>10} {:>10}",
            "", "times", "p50 µs", "p90 µs", "p99 µs", "most µs"
        );
        for row in &self.rows {
            println!(
                "{:<48} {:>6} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
                row.name,
                row.samples.len(),
                row.at(50.0),
                row.at(90.0),
                row.at(99.0),
                row.at(100.0)
            );
        }
    }

    pub fn report(&self, report: &mut Report) -> anyhow::Result<()> {
        let rows = self.rows.iter().map(|row| {
            json!({
                "row": row.name,
                "times": row.samples.len(),
                "p50_us": row.at(50.0),
                "p90_us": row.at(90.0),
                "p99_us": row.at(99.0),
                "most_us": row.at(100.0),
            })
        });
        report.add(json!({"bench": "cold-start", "rows": rows.collect::<Vec<_>>()}));
        // Rows that only explain the one above are left to the table.
        let rows = self.rows.iter().filter(|row| !row.name.starts_with(' '));
        let bars = rows.map(|row| {
            let spread = Spread {
                median: row.at(50.0) / 1000.0,
                least: row.at(10.0) / 1000.0,
                most: row.at(90.0) / 1000.0,
            };
            Bar::of_server(&row.name, spread)
        });
        let chart = Chart {
            title: "First call".into(),
            unit: "ms, less is better; bars: median, lines: P10 to P90".into(),
            groups: vec![Group {
                name: String::new(),
                bars: bars.collect(),
            }],
        };
        report.draw("cold-start", &chart)
    }
}
