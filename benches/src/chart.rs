//! Bar charts as SVG: a bar for each server with its median, and a line across that shows the spread.

use crate::statistics::Spread;
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LABEL_WIDTH: f64 = 190.0;
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
    pub bars: Vec<(String, Spread)>,
}

impl Chart {
    /// The whole SVG file.
    pub fn svg(&self) -> String {
        let bars = self.groups.iter().map(|group| group.bars.len()).sum::<usize>();
        let height = TOP + bars as f64 * BAR_STEP + self.groups.len() as f64 * GROUP_GAP + 12.0;
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
            let _ = writeln!(
                svg,
                "<text x=\"16\" y=\"{}\" font-weight=\"600\" fill=\"#1b2733\">{}</text>",
                y + 21.0,
                escaped(&group.name)
            );
            y += GROUP_GAP;
            for (label, spread) in &group.bars {
                self.draw_bar(&mut svg, y, label, *spread);
                y += BAR_STEP;
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_bar(&self, svg: &mut String, y: f64, label: &str, spread: Spread) {
        let scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / self.most();
        let [median, least, most] = [spread.median, spread.least, spread.most].map(|value| value * scale);
        let middle = y + BAR_HEIGHT / 2.0;
        let text_y = middle + 4.5;
        // Our own bars stand out.
        let colour = if label.starts_with("kittiwake") {
            "#1f77b4"
        } else {
            "#b4bfc9"
        };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\" fill=\"#1b2733\">{}</text>\n\
             <rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{median:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\" fill=\"{colour}\"/>\n\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#1b2733\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.1}\" y=\"{text_y}\" fill=\"#1b2733\">{}</text>",
            LABEL_WIDTH - 8.0,
            escaped(label),
            LABEL_WIDTH + least,
            LABEL_WIDTH + most,
            LABEL_WIDTH + most.max(median) + 8.0,
            number(spread.median)
        );
    }

    /// The end of the scale.
    fn most(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let most = bars
            .map(|(_, spread)| spread.most)
            .filter(|most| most.is_finite());
        most.fold(f64::MIN_POSITIVE, f64::max)
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
                bars: vec![("x".into(), Spread::of([4.0])), ("y".into(), Spread::of([2.0]))],
            }],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains("width=\"560.0\"") && svg.contains("width=\"280.0\""));
    }
}
