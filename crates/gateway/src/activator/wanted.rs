//! How many instances of a resident revision there shall be in this process: what the autoscaler wants, or a first few
//! when calls came before it could want any.

use kittiwake_core::revision::Scaling;
use std::num::NonZeroU32;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// The autoscaler's word; `None` before it has said anything.
    decided: Option<u32>,
    /// Whether calls found no instance, and the autoscaler has not answered with some since.
    poked: bool,
    /// Whether the revision is routed here at all.
    routed: bool,
}

impl Wanted {
    /// The autoscaler's newest word.
    pub(crate) fn decide(&mut self, decided: Option<u32>) {
        self.decided = decided;
        if decided.is_some_and(|count| count > 0) {
            self.poked = false;
        }
    }

    /// Whether calls can come.
    pub(crate) fn is_routed(&self) -> bool {
        self.routed
    }

    /// Whether calls can come from now on.
    pub(crate) fn route(&mut self, routed: bool) {
        self.routed = routed;
        self.poked &= routed;
    }

    /// A call found no instance. Tells whether that is news.
    pub(crate) fn poke(&mut self) -> bool {
        let news = !self.poked && self.decided.unwrap_or(0) == 0;
        self.poked |= news;
        news
    }

    /// There were no calls for so long that what a poke started is not needed.
    pub(crate) fn idle(&mut self) {
        self.poked = false;
    }

    /// How many there shall be.
    pub(crate) fn count(&self, scaling: Scaling) -> u32 {
        let first = scaling.activation.map_or(1, NonZeroU32::get);
        let count = match self.decided {
            _ if !self.routed => 0,
            // Only the owners have instances, and there calls go.
            _ if scaling.owners.is_some_and(|owners| !owners.is_here()) => 0,
            Some(decided) if decided > 0 => decided,
            _ if self.poked => first,
            _ => 0,
        };
        count.min(scaling.max.map_or(u32::MAX, NonZeroU32::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::share::Owners;

    fn scaling(max: u32, activation: u32) -> Scaling {
        Scaling {
            max: NonZeroU32::new(max),
            activation: NonZeroU32::new(activation),
            owners: None,
        }
    }

    #[test]
    fn a_process_that_owns_none_wants_none() {
        let of = |place| Scaling {
            owners: Some(Owners {
                place,
                first: 0,
                processes: NonZeroU32::new(3).unwrap(),
                max: NonZeroU32::MIN,
            }),
            ..scaling(1, 0)
        };
        let mut wanted = Wanted::default();
        wanted.route(true);
        wanted.poke();
        assert_eq!((wanted.count(of(0)), wanted.count(of(1))), (1, 0));
        wanted.decide(Some(1));
        assert_eq!((wanted.count(of(0)), wanted.count(of(2))), (1, 0));
    }

    #[test]
    fn a_call_at_zero_starts_the_first_and_then_the_autoscaler_rules() {
        let mut wanted = Wanted::default();
        wanted.route(true);
        assert_eq!(wanted.count(scaling(0, 0)), 0);
        assert!(wanted.poke());
        assert!(!wanted.poke(), "the second call is no news");
        assert_eq!(wanted.count(scaling(0, 0)), 1);
        assert_eq!(wanted.count(scaling(0, 5)), 5);
        assert_eq!(wanted.count(scaling(3, 5)), 3);
        wanted.decide(Some(0));
        assert_eq!(wanted.count(scaling(0, 0)), 1, "said before it knew of the calls");
        wanted.decide(Some(2));
        assert_eq!(wanted.count(scaling(0, 0)), 2);
        assert!(!wanted.poke(), "some are wanted already");
        wanted.decide(Some(0));
        assert_eq!(wanted.count(scaling(0, 0)), 0, "now it knows");
        assert!(wanted.poke());
    }

    #[test]
    fn what_is_not_routed_or_not_needed_goes() {
        let mut wanted = Wanted::default();
        wanted.route(true);
        wanted.decide(Some(4));
        wanted.route(false);
        assert_eq!(wanted.count(scaling(0, 0)), 0);
        wanted.route(true);
        assert_eq!(wanted.count(scaling(0, 0)), 4);
        wanted.decide(None);
        assert_eq!(wanted.count(scaling(0, 0)), 0);
        wanted.poke();
        wanted.idle();
        assert_eq!(wanted.count(scaling(0, 0)), 0);
    }
}
