//! The figures of one kind of work at one number of connections, printed and as JSON.

use super::{Pace, Round, spread};
use crate::chart::Bar;
use crate::peers::{Contender, NATIVE, WASMTIME};
use crate::workload::Work;
use serde_json::{Value, json};

/// A row for each server.
pub struct Table {
    work: Work,
    connections: usize,
    pace: Pace,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    rounds: Vec<Round>,
}

impl Table {
    pub fn new(work: Work, connections: usize, pace: Pace, contenders: &[Contender]) -> Self {
        let rows = contenders.iter().map(|contender| Row {
            name: contender.name,
            rounds: Vec::new(),
        });
        Self {
            work,
            connections,
            pace,
            rows: rows.collect(),
        }
    }

    /// The rounds of each row, to add to.
    pub fn rounds_mut(&mut self) -> impl Iterator<Item = &mut Vec<Round>> {
        self.rows.iter_mut().map(|row| &mut row.rounds)
    }

    /// What a chart shows: rates of a closed loop, P99 of an open one.
    pub fn bars(&self) -> Vec<Bar> {
        let bar = |row: &Row| {
            let figure = match self.pace {
                Pace::Saturation => spread(&row.rounds, |round| round.rate),
                Pace::Rate(_) | Pace::Share(_) => spread(&row.rounds, |round| round.p99),
            };
            Bar::of_server(row.name, figure)
        };
        self.rows.iter().map(bar).collect()
    }

    pub fn print(&self) {
        println!(
            "\n{}, {} connection(s), median [least – most] over the rounds",
            self.work.name(),
            self.connections
        );
        let [first, second] = match self.pace {
            Pace::Saturation => ["× native", "× wasmtime"],
            Pace::Rate(_) | Pace::Share(_) => ["due/s", "answered"],
        };
        println!(
            "{:<18} {:>25} {:>9} {:>9} {:>9} {:>11} {:>11} {:>9} {:>10}",
            "", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/req", "client CPU", first, second
        );
        for row in &self.rows {
            let of = |figure: fn(&Round) -> f64| spread(&row.rounds, figure).median;
            let rate = spread(&row.rounds, |round| round.rate);
            let [first, second] = self.last_columns(row, rate.median);
            println!(
                "{:<18} {:>25} {:>9.0} {:>9.0} {:>9.0} {:>11.1} {:>11.1} {first:>9} {second:>10}",
                row.name,
                format!("{:.0} [{:.0} – {:.0}]", rate.median, rate.least, rate.most),
                of(|round| round.p50),
                of(|round| round.p99),
                of(|round| round.p999),
                of(|round| round.server_cpu),
                of(|round| round.client_cpu),
            );
        }
    }

    /// How it compares with others; in an open loop instead, what was due and how much of that was answered in time.
    fn last_columns(&self, row: &Row, rate: f64) -> [String; 2] {
        match self.pace {
            Pace::Saturation => [NATIVE, WASMTIME].map(|name| {
                let other = self.rows.iter().find(|row| row.name == name);
                let other = other.map(|row| spread(&row.rounds, |round| round.rate).median);
                other.map_or("–".into(), |other| format!("{:.2}", rate / other))
            }),
            Pace::Rate(_) | Pace::Share(_) => {
                let due = spread(&row.rounds, |round| round.due.unwrap_or(f64::NAN));
                let answered = spread(&row.rounds, |round| round.rate / round.due.unwrap_or(f64::NAN));
                [
                    format!("{:.0}", due.median),
                    format!("{:.1} %", answered.median * 100.0),
                ]
            }
        }
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let of = |figure: fn(&Round) -> f64| spread(&row.rounds, figure);
            json!({
                "server": row.name,
                "requests_per_second": of(|round| round.rate),
                "requests_due_per_second": row.rounds.iter().map(|round| round.due).collect::<Vec<_>>(),
                "p50_us": of(|round| round.p50),
                "p99_us": of(|round| round.p99),
                "p999_us": of(|round| round.p999),
                "server_cpu_us_per_request": of(|round| round.server_cpu),
                "client_cpu_us_per_request": of(|round| round.client_cpu),
            })
        });
        let (rate, share) = match self.pace {
            Pace::Saturation => (None, None),
            Pace::Rate(rate) => (Some(rate), None),
            Pace::Share(share) => (None, Some(share)),
        };
        json!({
            "bench": "http",
            "work": self.work.name(),
            "connections": self.connections,
            "rate": rate,
            "share_of_saturation": share,
            "servers": rows.collect::<Vec<_>>(),
        })
    }
}
