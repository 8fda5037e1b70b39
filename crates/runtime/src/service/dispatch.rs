//! Which calls wait for an instance, which instances have room, and when one more is needed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the calls and the instances of one version of a function. `J` is a call that waits, `I` an instance.
pub(super) struct Dispatch<J, I> {
    state: Mutex<State<J, I>>,
    /// Calls that one instance takes at a time.
    at_a_time_max: usize,
    /// Instances that can compute at a time.
    cores: usize,
}

struct State<J, I> {
    /// Oldest first.
    waiting: VecDeque<J>,
    /// Calls in `waiting` that nobody waits for any more.
    given_up: usize,
    instances: Vec<Offer<I>>,
    /// Instances that are being made.
    starting: usize,
}

/// How many calls an instance would take now.
struct Offer<I> {
    instance: Arc<I>,
    room: usize,
}

/// A call that waits.
pub(super) trait Waits {
    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool;
}

impl<J: Waits, I> Dispatch<J, I> {
    /// No calls, no instances.
    pub(super) fn new(at_a_time_max: usize, cores: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                given_up: 0,
                instances: Vec::new(),
                starting: 0,
            }),
            at_a_time_max,
            cores,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<J, I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call comes. The instance to be woken for it, if one has room.
    pub(super) fn push(&self, call: J) -> Option<Arc<I>> {
        let mut state = self.state();
        state.waiting.push_back(call);
        let roomy = state.instances.iter().find(|offer| offer.room > 0);
        roomy.map(|offer| Arc::clone(&offer.instance))
    }

    /// Whether one more instance must be made, which is then counted as starting: when more calls wait than there is
    /// room for; or when calls wait for instances that are all busy, though not all cores are.
    pub(super) fn begin_start(&self) -> bool {
        let mut state = self.state();
        let waiting = state.waiting.len().saturating_sub(state.given_up);
        let live = state.instances.len() + state.starting;
        let needed = waiting > self.room(&state) || (waiting > live && live < self.cores);
        if needed {
            state.starting += 1;
        }
        needed
    }

    fn room(&self, state: &State<J, I>) -> usize {
        let offered: usize = state.instances.iter().map(|offer| offer.room).sum();
        offered + state.starting * self.at_a_time_max
    }

    /// One that was starting is there; it offers nothing yet.
    pub(super) fn started(&self, instance: &Arc<I>) {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        state.instances.push(Offer {
            instance: Arc::clone(instance),
            room: 0,
        });
    }

    /// One that was starting cannot be made. The calls for which there is no room now, which have to be told.
    pub(super) fn not_started(&self) -> Vec<J> {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        let room = self.room(&state);
        state.forget_given_up();
        let kept = state.waiting.len().min(room);
        state.waiting.split_off(kept).into()
    }

    /// How many calls an instance would take now.
    pub(super) fn offer(&self, instance: &Arc<I>, room: usize) {
        let mut state = self.state();
        let is_it = |offer: &&mut Offer<I>| Arc::ptr_eq(&offer.instance, instance);
        if let Some(offer) = state.instances.iter_mut().find(is_it) {
            offer.room = room;
        }
    }

    /// The call that has waited longest.
    pub(super) fn take(&self) -> Option<J> {
        let mut state = self.state();
        while let Some(call) = state.waiting.pop_front() {
            if !call.is_given_up() {
                return Some(call);
            }
            state.given_up = state.given_up.saturating_sub(1);
        }
        None
    }

    /// One more of the calls that wait is given up. They are dropped before they are many.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        state.given_up += 1;
        if state.given_up > state.waiting.len() / 2 {
            state.forget_given_up();
        }
    }

    /// An instance is gone.
    pub(super) fn ended(&self, instance: &Arc<I>) {
        self.state()
            .instances
            .retain(|offer| !Arc::ptr_eq(&offer.instance, instance));
    }

    /// The instances there are.
    pub(super) fn instances(&self) -> Vec<Arc<I>> {
        let state = self.state();
        state
            .instances
            .iter()
            .map(|offer| Arc::clone(&offer.instance))
            .collect()
    }
}

impl<J: Waits, I> State<J, I> {
    fn forget_given_up(&mut self) {
        self.waiting.retain(|call| !call.is_given_up());
        self.given_up = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Call(u32, Rc<Cell<bool>>);

    impl Waits for Call {
        fn is_given_up(&self) -> bool {
            self.1.get()
        }
    }

    fn call(number: u32) -> Call {
        Call(number, Rc::default())
    }

    #[test]
    fn a_burst_starts_as_few_as_there_is_room_for_but_one_for_each_core() {
        let dispatch: Dispatch<Call, ()> = Dispatch::new(16, 2);
        let started = (0..40)
            .filter(|number| {
                assert!(dispatch.push(call(*number)).is_none());
                dispatch.begin_start()
            })
            .count();
        assert_eq!(started, 3, "48 places; the second one for the second core");
        for (at_a_time, expected) in [(1, 40), (40, 2), (100, 2)] {
            let dispatch: Dispatch<Call, ()> = Dispatch::new(at_a_time, 2);
            let started = (0..40).filter(|number| {
                dispatch.push(call(*number));
                dispatch.begin_start()
            });
            assert_eq!(started.count(), expected, "{at_a_time} at a time");
        }
    }

    #[test]
    fn calls_go_in_order_to_whoever_has_room() {
        let dispatch: Dispatch<Call, u8> = Dispatch::new(4, 1);
        let (full, roomy) = (Arc::new(1), Arc::new(2));
        dispatch.push(call(0));
        assert!(dispatch.begin_start());
        dispatch.started(&full);
        dispatch.started(&roomy);
        dispatch.offer(&roomy, 4);
        for number in 1..4 {
            assert_eq!(dispatch.push(call(number)), Some(Arc::clone(&roomy)));
            assert!(!dispatch.begin_start());
        }
        dispatch.offer(&roomy, 3);
        assert!(dispatch.begin_start(), "four wait, for three places");
        for number in 0..4 {
            assert_eq!(dispatch.take().unwrap().0, number);
        }
        assert!(dispatch.take().is_none());
        dispatch.ended(&full);
        assert_eq!(dispatch.instances(), [roomy]);
    }

    #[test]
    fn what_cannot_be_started_fails_the_youngest_without_room() {
        let dispatch: Dispatch<Call, u8> = Dispatch::new(2, 1);
        let instance = Arc::new(1);
        for number in 0..5 {
            dispatch.push(call(number));
        }
        assert!(dispatch.begin_start());
        dispatch.started(&instance);
        dispatch.offer(&instance, 2);
        assert!(dispatch.begin_start());
        let failed: Vec<u32> = dispatch.not_started().iter().map(|call| call.0).collect();
        assert_eq!(failed, [2, 3, 4]);
        assert_eq!(dispatch.take().unwrap().0, 0);
    }

    #[test]
    fn calls_that_are_given_up_need_nobody() {
        let dispatch: Dispatch<Call, u8> = Dispatch::new(1, 1);
        let calls: Vec<Call> = (0..10).map(call).collect();
        for call in &calls {
            dispatch.push(call.clone());
        }
        for call in calls.iter().skip(1) {
            call.1.set(true);
            dispatch.give_up();
        }
        assert!(dispatch.state().waiting.len() < 4);
        assert!(dispatch.begin_start());
        assert!(!dispatch.begin_start(), "one waits, one starts");
        assert_eq!(dispatch.take().unwrap().0, 0);
        assert!(dispatch.take().is_none());
    }
}
