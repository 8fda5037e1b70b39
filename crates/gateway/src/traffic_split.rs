//! Which revision answers: by lot, in the shares of the route.

use crate::router::{Host, Target};
use kittiwake_core::routing_table::PERCENT_TOTAL;

/// The target for a call. `draw` gives a number in `0..PERCENT_TOTAL` and is asked only when there is a choice.
pub(crate) fn pick(host: &Host, draw: impl FnOnce() -> u32) -> Option<&Target> {
    if let [only] = host.targets.as_slice() {
        return Some(only);
    }
    let picked = host.entry.pick(draw())?;
    host.targets
        .iter()
        .find(|target| std::sync::Arc::ptr_eq(&target.revision, &picked.revision))
}

/// A draw from the thread's random numbers.
pub(crate) fn draw() -> u32 {
    rand::random_range(0..PERCENT_TOTAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::{entry, router};

    #[test]
    fn a_split_is_exact_over_all_draws() {
        let router = router(&[("h", entry(&[("a", 10), ("zero", 0), ("b", 90)]))]);
        let host = router.lookup("h").unwrap();
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for draw in 0..PERCENT_TOTAL {
            *counts
                .entry(pick(&host, || draw).unwrap().revision.key.name.to_string())
                .or_default() += 1;
        }
        assert_eq!(counts, [("a".to_owned(), 10), ("b".to_owned(), 90)].into());
    }

    #[test]
    fn a_single_target_needs_no_draw_and_none_gives_none() {
        let router = router(&[("one", entry(&[("a", 100)])), ("none", entry(&[]))]);
        let picked = pick(&router.lookup("one").unwrap(), || panic!("there is no choice"))
            .unwrap()
            .revision
            .key
            .name
            .to_string();
        assert_eq!(picked, "a");
        assert!(pick(&router.lookup("none").unwrap(), || 0).is_none());
    }

    #[test]
    fn draws_cover_the_range() {
        let drawn: std::collections::BTreeSet<u32> = (0..10_000).map(|_| draw()).collect();
        assert!(drawn.len() > 90 && drawn.iter().all(|d| *d < PERCENT_TOTAL));
    }
}
