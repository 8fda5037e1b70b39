//! One page of metrics from several processes: Prometheus' text format, each worker's series with a label of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The lines of one metric.
#[derive(Default)]
struct Family {
    /// Its `# HELP` and `# TYPE`, from the first process that has it.
    head: String,
    samples: String,
}

/// Joins the page of the supervisor (first, without label) and those of the workers, by metric: the format wants all
/// lines of one metric together.
#[must_use]
pub fn merge(own: &str, workers: &[(usize, String)]) -> String {
    let mut families: BTreeMap<&str, Family> = BTreeMap::new();
    take(&mut families, own, None);
    for (index, page) in workers {
        take(&mut families, page, Some(*index));
    }
    let mut page =
        String::with_capacity(own.len() + workers.iter().map(|(_, page)| page.len()).sum::<usize>());
    for family in families.values() {
        page.push_str(&family.head);
        page.push_str(&family.samples);
    }
    page
}

fn take<'a>(families: &mut BTreeMap<&'a str, Family>, page: &'a str, worker: Option<usize>) {
    let mut name = "";
    let mut first_here = false;
    for line in page.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some("HELP" | "TYPE"), Some(of)) = (words.next(), words.next()) else {
                continue;
            };
            if name != of {
                name = of;
                first_here = !families.contains_key(name);
            }
            let family = families.entry(name).or_default();
            if first_here {
                family.head.push_str(line);
                family.head.push('\n');
            }
        } else if !line.is_empty() {
            let samples = &mut families.entry(name).or_default().samples;
            match worker {
                None => samples.push_str(line),
                Some(index) => label(samples, line, index),
            }
            samples.push('\n');
        }
    }
}

/// Adds a sample line with the label `worker` before its others.
fn label(samples: &mut String, line: &str, worker: usize) {
    // A name has no braces, so the first one opens the labels.
    let end = line.find(['{', ' ']).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let written = match rest.strip_prefix('{') {
        Some(labels) => write!(samples, "{name}{{worker=\"{worker}\",{labels}"),
        None => write!(samples, "{name}{{worker=\"{worker}\"}}{rest}"),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_comes_once_with_all_its_series() {
        let own = "# HELP a one\n# TYPE a counter\na 1\n";
        let first = "# HELP a one\n# TYPE a counter\na 2\n# HELP b two {x}\n# TYPE b gauge\nb{x=\"{ }\"} 3\n";
        let second = "# HELP b two {x}\n# TYPE b gauge\nb{x=\"y\",z=\"\\\"\"} 4\n";
        let page = merge(own, &[(0, first.to_owned()), (1, second.to_owned())]);
        assert_eq!(
            page,
            "# HELP a one\n# TYPE a counter\na 1\na{worker=\"0\"} 2\n\
             # HELP b two {x}\n# TYPE b gauge\nb{worker=\"0\",x=\"{ }\"} 3\nb{worker=\"1\",x=\"y\",z=\"\\\"\"} 4\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_sample_is_lost_whatever_a_page_says(own in "(([a-z#{}\" 0-9]|HELP |TYPE |é){0,20}\n){0,8}", worker in "(([a-z#{}\" 0-9]|# HELP a){0,20}\n){0,8}") {
            let samples = |page: &str| page.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).count();
            let page = merge(&own, &[(3, worker.clone())]);
            proptest::prop_assert_eq!(samples(&page), samples(&own) + samples(&worker));
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(merge("", &[(0, String::new())]), "");
    }
}
