//! Bar charts as SVG: a bar for each server with its median, and a line across that shows the spread.

use crate::statistics::Spread;
use std::fmt::Write;

const WIDTH: f64 = 860.0;
/// Left of the labels, and between them and the bars.
const MARGIN: f64 = 16.0;
const LABEL_GAP: f64 = 8.0;
/// About what a character takes at font size 13; the width of text is not known here.
const CHARACTER_WIDTH: f64 = 7.2;
const VALUE_WIDTH: f64 = 110.0;
const BAR_HEIGHT: f64 = 18.0;
const BAR_STEP: f64 = 25.0;
const GROUP_GAP: f64 = 34.0;
const TOP: f64 = 58.0;

/// Bars in groups, all on one scale that begins at zero.
pub struct Chart {
    pub title: String,
    /// What the numbers are, which are better, and what the lines across the bars span.
    pub unit: String,
    pub groups: Vec<Group>,
}

/// Bars under a heading, such as a number of connections.
pub struct Group {
    pub name: String,
    pub bars: Vec<Bar>,
}

pub struct Bar {
    pub label: String,
    pub spread: Spread,
    /// Whether it is Kittiwake's, and stands out.
    pub ours: bool,
}

impl Bar {
    /// A bar of a server by its name in the tables.
    pub fn of_server(name: &str, spread: Spread) -> Self {
        Self {
            label: name.to_owned(),
            spread,
            ours: name.starts_with("kittiwake"),
        }
    }
}

impl Chart {
    /// The whole SVG file.
    pub fn svg(&self) -> String {
        let bars = self.bars().count();
        let headings = self.groups.iter().filter(|group| !group.name.is_empty()).count();
        let height = TOP + bars as f64 * BAR_STEP + headings as f64 * GROUP_GAP + 12.0;
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"system-ui, 'Liberation Sans', sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"600\" fill=\"#1b2733\">{}</text>\n\
             <text x=\"16\" y=\"45\" fill=\"#5b6975\">{}</text>",
            escaped(&self.title),
            escaped(&self.unit)
        );
        let mut y = TOP;
        for group in &self.groups {
            if !group.name.is_empty() {
                let _ = writeln!(
                    svg,
                    "<text x=\"16\" y=\"{}\" font-weight=\"600\" fill=\"#1b2733\">{}</text>",
                    y + 21.0,
                    escaped(&group.name)
                );
                y += GROUP_GAP;
            }
            for bar in &group.bars {
                self.draw_bar(&mut svg, y, bar);
                y += BAR_STEP;
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_bar(&self, svg: &mut String, y: f64, bar: &Bar) {
        let (left, spread) = (self.left(), bar.spread);
        let scale = (WIDTH - left - VALUE_WIDTH) / self.most();
        let [median, least, most] = [spread.median, spread.least, spread.most].map(|value| value * scale);
        let middle = y + BAR_HEIGHT / 2.0;
        let text_y = middle + 4.5;
        let colour = if bar.ours { "#1f77b4" } else { "#b4bfc9" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\" fill=\"#1b2733\">{}</text>\n\
             <rect x=\"{left}\" y=\"{y}\" width=\"{median:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\" fill=\"{colour}\"/>\n\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#1b2733\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.1}\" y=\"{text_y}\" fill=\"#1b2733\">{}</text>",
            left - LABEL_GAP,
            escaped(&bar.label),
            left + least,
            left + most,
            left + most.max(median) + 8.0,
            number(spread.median)
        );
    }

    fn bars(&self) -> impl Iterator<Item = &Bar> {
        self.groups.iter().flat_map(|group| &group.bars)
    }

    /// Where bars begin: right of the longest label.
    fn left(&self) -> f64 {
        let longest = self.bars().map(|bar| bar.label.chars().count()).max();
        MARGIN + longest.unwrap_or(0) as f64 * CHARACTER_WIDTH + LABEL_GAP
    }

    /// The end of the scale.
    fn most(&self) -> f64 {
        let most = self.bars().map(|bar| bar.spread.most);
        most.filter(|most| most.is_finite())
            .fold(f64::MIN_POSITIVE, f64::max)
    }
}

/// With as many places as a reader can use, and thousands apart.
pub fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(number(7.25), "7.2");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(1_234_567.0), "1,234,567");
    }

    #[test]
    fn the_longest_bar_ends_where_its_number_begins() {
        let chart = Chart {
            title: "a < b".into(),
            unit: "s".into(),
            groups: vec![Group {
                name: "one".into(),
                bars: [("x", 4.0), ("y", 2.0)]
                    .map(|(name, value)| Bar::of_server(name, Spread::of([value])))
                    .into(),
            }],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains("width=\"718.8\"") && svg.contains("width=\"359.4\""));
    }
}
