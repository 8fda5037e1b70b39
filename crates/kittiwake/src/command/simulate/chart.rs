//! The chart of a simulation: instances, the load, and the excess burst capacity, one below the other over time; the time
//! in which it panics is shaded.

use super::picture::{Colour, Mark, Picture, Words};
use kittiwake_autoscaler::simulation::{Setup, Tick};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 44.0;
const PANEL: f64 = 170.0;
const GAP: f64 = 48.0;
const BOTTOM: f64 = 30.0;
const PANELS: f64 = 3.0;
/// Lines across a panel, besides the one at its bottom.
const STEPS: u32 = 4;

const INK: Colour = [27, 39, 51];
const FAINT: Colour = [91, 105, 117];
const GRID: Colour = [226, 231, 236];
const SHADE: Colour = [253, 232, 226];
const BLUE: Colour = [31, 99, 184];
const GREEN: Colour = [43, 140, 86];
const ORANGE: Colour = [214, 110, 28];
const GREY: Colour = [150, 160, 170];

struct Series {
    name: &'static str,
    colour: Colour,
    /// Whether a value holds until the next one.
    steps: bool,
    value: fn(&Tick) -> f64,
}

struct Panel {
    title: String,
    series: Vec<Series>,
}

/// Draws the chart.
#[must_use]
pub fn draw(ticks: &[Tick], setup: &Setup) -> Picture {
    let mut marks = vec![Mark::Words {
        x: LEFT,
        y: 20.0,
        text: format!(
            "target {} of {}, window {} s, panic window {} s",
            setup.decider.target.target,
            setup.decider.target.total,
            setup.decider.stable_window.as_secs(),
            setup.decider.panic_window.as_secs()
        ),
        colour: INK,
        style: Words::Heading,
    }];
    let span = Span::of(ticks);
    let mut top = TOP + 24.0;
    for panel in panels() {
        draw_panel(&mut marks, &panel, ticks, span, top);
        top += PANEL + GAP;
    }
    marks.push(Mark::Words {
        x: WIDTH - RIGHT,
        y: top - GAP + 32.0,
        text: "seconds".to_owned(),
        colour: FAINT,
        style: Words::Right,
    });
    Picture {
        width: WIDTH as u32,
        height: (TOP + 24.0 + PANELS * (PANEL + GAP) + BOTTOM - GAP + 12.0) as u32,
        marks,
    }
}

fn panels() -> [Panel; 3] {
    let line = |name, colour, value| Series {
        name,
        colour,
        steps: false,
        value,
    };
    let steps = |name, colour, value| Series {
        name,
        colour,
        steps: true,
        value,
    };
    [
        Panel {
            title: "Instances".to_owned(),
            series: vec![
                steps("desired", GREY, |tick| f64::from(tick.desired)),
                steps("ready", GREEN, |tick| f64::from(tick.ready)),
                steps("scale", BLUE, |tick| f64::from(tick.scale)),
            ],
        },
        Panel {
            title: "Load".to_owned(),
            series: vec![
                line("panic window", ORANGE, |tick| tick.panic),
                line("stable window", BLUE, |tick| tick.stable),
            ],
        },
        Panel {
            title: "Excess burst capacity".to_owned(),
            series: vec![line("excess", BLUE, |tick| f64::from(tick.excess_burst_capacity))],
        },
    ]
}

/// The time that is shown.
#[derive(Clone, Copy)]
struct Span {
    from: f64,
    to: f64,
}

impl Span {
    fn of(ticks: &[Tick]) -> Self {
        let from = ticks.first().map_or(0.0, |tick| tick.time);
        let to = ticks.last().map_or(0.0, |tick| tick.time);
        Self {
            from,
            to: to.max(from + 1.0),
        }
    }

    fn x(self, time: f64) -> f64 {
        LEFT + (time - self.from) / (self.to - self.from) * (WIDTH - LEFT - RIGHT)
    }
}

fn draw_panel(marks: &mut Vec<Mark>, panel: &Panel, ticks: &[Tick], span: Span, top: f64) {
    let bottom = top + PANEL;
    shade_panics(marks, ticks, span, top);
    let values = || {
        panel
            .series
            .iter()
            .flat_map(|series| ticks.iter().map(series.value))
    };
    let step = round_step(values().fold(1.0, f64::max), values().fold(0.0, f64::min));
    let low = (values().fold(0.0, f64::min) / step).floor() * step;
    let high = (values().fold(1.0, f64::max) / step).ceil() * step;
    let y = |value: f64| bottom - (value - low) / (high - low) * PANEL;
    let mut at = low;
    while at <= high + step / 2.0 {
        let colour = if at == 0.0 { GREY } else { GRID };
        let points = vec![(LEFT, y(at)), (WIDTH - RIGHT, y(at))];
        marks.push(Mark::Line {
            points,
            colour,
            width: 1,
        });
        marks.push(words(
            LEFT - 8.0,
            y(at),
            format!("{}", (at * 1e6).round() / 1e6),
            FAINT,
            Words::Right,
        ));
        at += step;
    }
    let time_step = round_step(span.to - span.from, 0.0);
    let mut time = (span.from / time_step).ceil() * time_step;
    while time <= span.to {
        marks.push(words(
            span.x(time),
            bottom + 12.0,
            format!("{time}"),
            FAINT,
            Words::Middle,
        ));
        time += time_step;
    }
    let mut x = LEFT;
    marks.push(words(x, top - 12.0, panel.title.clone(), INK, Words::Left));
    x += panel.title.len() as f64 * 7.0 + 20.0;
    for series in &panel.series {
        let points = vec![(x, top - 12.0), (x + 16.0, top - 12.0)];
        marks.push(Mark::Line {
            points,
            colour: series.colour,
            width: 3,
        });
        marks.push(words(
            x + 22.0,
            top - 12.0,
            series.name.to_owned(),
            FAINT,
            Words::Left,
        ));
        x += series.name.len() as f64 * 7.0 + 44.0;
        let points = points_of(series, ticks, span, &y);
        marks.push(Mark::Line {
            points,
            colour: series.colour,
            width: 2,
        });
    }
}

fn words(x: f64, y: f64, text: String, colour: Colour, style: Words) -> Mark {
    Mark::Words {
        x,
        y,
        text,
        colour,
        style,
    }
}

/// A box behind each time of panic.
fn shade_panics(marks: &mut Vec<Mark>, ticks: &[Tick], span: Span, top: f64) {
    let mut since = None;
    let last = ticks.last().map(|tick| (tick.time, false));
    for (time, panicking) in ticks.iter().map(|tick| (tick.time, tick.panicking)).chain(last) {
        match (since, panicking) {
            (None, true) => since = Some(time),
            (Some(from), false) => {
                let (left, right) = (span.x(from), span.x(time));
                marks.push(Mark::Box {
                    at: [left, top, (right - left).max(1.0), PANEL],
                    fill: SHADE,
                });
                since = None;
            }
            _ => {}
        }
    }
}

/// The points of a line. Of the ticks that fall on one pixel the lowest and the highest value are drawn.
fn points_of(series: &Series, ticks: &[Tick], span: Span, y: &impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut column: Option<(f64, f64, f64, f64)> = None;
    let flush = |points: &mut Vec<(f64, f64)>, column: &Option<(f64, f64, f64, f64)>| {
        if let Some((x, low, high, last)) = *column {
            for value in [low, high, last] {
                if points.last() != Some(&(x, y(value))) {
                    points.push((x, y(value)));
                }
            }
        }
    };
    for tick in ticks {
        let (x, value) = (span.x(tick.time).round(), (series.value)(tick));
        match &mut column {
            Some((at, low, high, last)) if *at == x => {
                (*low, *high, *last) = (low.min(value), high.max(value), value);
            }
            _ => {
                flush(&mut points, &column);
                if series.steps
                    && let Some((_, _, _, last)) = column
                {
                    points.push((x, y(last)));
                }
                column = Some((x, value, value, value));
            }
        }
    }
    flush(&mut points, &column);
    points
}

/// A round number of which a few fit between `low` and `high`: 1, 2 or 5 times a power of ten.
fn round_step(high: f64, low: f64) -> f64 {
    let rough = ((high - low) / f64::from(STEPS)).max(1e-6);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (high, low, wanted) in [
            (1.0, 0.0, 0.5),
            (7.0, 0.0, 2.0),
            (100.0, 0.0, 50.0),
            (90.0, -211.0, 100.0),
            (0.0, 0.0, 1e-6),
        ] {
            assert!(
                (round_step(high, low) - wanted).abs() < wanted / 1e6,
                "{high} {low}"
            );
        }
    }

    #[test]
    fn every_tick_lies_within_the_picture_and_a_week_is_no_larger_than_an_hour() {
        let tick = |n: u32| Tick {
            time: f64::from(n) * 2.0,
            ready: n % 7,
            starting: 0,
            waiting: 0,
            stable: f64::from(n % 100),
            panic: f64::from(n % 90),
            desired: n % 7,
            scale: n % 5,
            panicking: n % 50 > 40,
            excess_burst_capacity: -211 + 100 * i32::try_from(n % 7).unwrap(),
        };
        let setup = crate::command::simulate::settings::tests_setup();
        let of = |count: u32| {
            let ticks: Vec<Tick> = (0..count).map(tick).collect();
            draw(&ticks, &setup)
        };
        let long = of(300_000);
        for mark in &long.marks {
            if let Mark::Line { points, .. } = mark {
                assert!(points.iter().all(|(x, y)| (0.0..=WIDTH).contains(x) && (0.0..=f64::from(long.height)).contains(y)));
            }
        }
        let points = |picture: &Picture| {
            picture
                .marks
                .iter()
                .map(|mark| match mark {
                    Mark::Line { points, .. } => points.len(),
                    _ => 0,
                })
                .sum::<usize>()
        };
        assert!(points(&long) < 30_000, "{}", points(&long));
        assert!(!of(0).svg().is_empty() && of(1).png().is_ok());
    }
}
