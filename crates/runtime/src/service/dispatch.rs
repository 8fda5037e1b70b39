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

/// How many calls an instance would take. What it says holds between the instance's turns, whenever the next one comes: an
/// instance that has room and has to wait for its turn must not be taken for a full one, or others would be made beside it.
struct Offer<I> {
    instance: Arc<I>,
    room: usize,
    /// Whether it takes calls at all: it does not while its guest computes, or says that it has enough.
    is_open: bool,
    /// A call has just come into it, with which it may compute; until its turn is over others are better off elsewhere, if
    /// there is room.
    is_begun: bool,
}

/// A call that waits.
pub(super) trait Waits {
    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool;
}

/// An instance with a number of places.
pub(super) trait Places {
    /// How many calls it has room for now.
    fn room(&self) -> usize;
}

/// What has to be done for the calls that wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needs<I> {
    /// The instance that has to be woken for one of them.
    pub(super) wake: Option<Arc<I>>,
    /// Whether one more instance has to be made, which is counted as starting.
    pub(super) start: bool,
}

impl<J: Waits, I: Places> Dispatch<J, I> {
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

    /// A call comes.
    pub(super) fn push(&self, call: J) -> Needs<I> {
        let mut state = self.state();
        state.waiting.push_back(call);
        self.needs_of(&mut state)
    }

    /// What has to be done for the calls that wait, which is asked when something has changed.
    pub(super) fn needs(&self) -> Needs<I> {
        self.needs_of(&mut self.state())
    }

    /// One more instance is made when more calls wait than there is room for; or when calls wait for instances that are
    /// all busy, though not all cores are.
    fn needs_of(&self, state: &mut State<J, I>) -> Needs<I> {
        let waiting = state.waiting.len().saturating_sub(state.given_up);
        if waiting == 0 {
            return Needs {
                wake: None,
                start: false,
            };
        }
        let live = state.instances.len() + state.starting;
        let start = waiting > self.room(state) || (waiting > live && live < self.cores);
        if start {
            state.starting += 1;
        }
        let roomy = || state.instances.iter().filter(|offer| offer.room > 0);
        let wake = roomy().find(|offer| !offer.is_begun).or_else(|| roomy().next());
        Needs {
            wake: wake.map(|offer| Arc::clone(&offer.instance)),
            start,
        }
    }

    fn room(&self, state: &State<J, I>) -> usize {
        let offered: usize = state.instances.iter().map(|offer| offer.room).sum();
        offered + state.starting * self.at_a_time_max
    }

    /// One that was starting is there, and takes calls in its first turn.
    pub(super) fn started(&self, instance: &Arc<I>) {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        state.instances.push(Offer {
            instance: Arc::clone(instance),
            room: instance.room(),
            is_open: true,
            is_begun: false,
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

    /// The call that has waited longest, for an instance that takes calls, if it has room. `enter` lets the call in.
    pub(super) fn take(&self, instance: &Arc<I>, enter: impl FnOnce(&J)) -> Option<J> {
        let mut state = self.state();
        let room = instance.room();
        let call = if room > 0 { state.next() } else { None };
        if let Some(call) = &call {
            enter(call);
        }
        if let Some(offer) = state.offer(instance) {
            offer.is_open = true;
            offer.is_begun |= call.is_some();
            offer.room = if call.is_some() { instance.room() } else { room };
        }
        call
    }

    /// The turn of an instance is over, and it takes more calls from now on or not.
    pub(super) fn rests(&self, instance: &Arc<I>, is_open: bool) {
        if let Some(offer) = self.state().offer(instance) {
            offer.is_begun = false;
            offer.is_open &= is_open;
            if !is_open {
                offer.room = 0;
            }
        }
    }

    /// A call has left an instance. Whether the instance has to be woken, because another one waits.
    pub(super) fn left(&self, instance: &Arc<I>) -> bool {
        let mut state = self.state();
        let waits = state.waiting.len() > state.given_up;
        let Some(offer) = state.offer(instance).filter(|offer| offer.is_open) else {
            return false;
        };
        offer.room = instance.room();
        waits && offer.room > 0
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
    fn next(&mut self) -> Option<J> {
        while let Some(call) = self.waiting.pop_front() {
            if !call.is_given_up() {
                return Some(call);
            }
            self.given_up = self.given_up.saturating_sub(1);
        }
        None
    }

    fn offer(&mut self, instance: &Arc<I>) -> Option<&mut Offer<I>> {
        let mut offers = self.instances.iter_mut();
        offers.find(|offer| Arc::ptr_eq(&offer.instance, instance))
    }

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
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// Its places that are free.
    #[derive(Debug)]
    struct Instance(AtomicUsize);

    impl PartialEq for Instance {
        fn eq(&self, other: &Self) -> bool {
            self.room() == other.room()
        }
    }

    impl Eq for Instance {}

    impl Places for Instance {
        fn room(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Instance {
        /// One that is there, and takes calls.
        fn open(dispatch: &Dispatch<Call, Self>, places: usize) -> Arc<Self> {
            let instance = Arc::new(Self(AtomicUsize::new(places)));
            dispatch.started(&instance);
            instance
        }

        fn takes(self: &Arc<Self>, dispatch: &Dispatch<Call, Self>) -> Option<u32> {
            let enter = |_: &Call| {
                self.0.fetch_sub(1, Ordering::Relaxed);
            };
            dispatch.take(self, enter).map(|call| call.0)
        }

        fn loses_one(self: &Arc<Self>, dispatch: &Dispatch<Call, Self>) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            dispatch.left(self)
        }
    }

    fn wakes(instance: &Arc<Instance>) -> Needs<Instance> {
        Needs {
            wake: Some(Arc::clone(instance)),
            start: false,
        }
    }

    #[test]
    fn a_burst_starts_as_few_as_there_is_room_for_but_one_for_each_core() {
        let dispatch: Dispatch<Call, Instance> = Dispatch::new(16, 2);
        let started = (0..40)
            .filter(|number| {
                let needs = dispatch.push(call(*number));
                assert!(needs.wake.is_none());
                needs.start
            })
            .count();
        assert_eq!(started, 3, "48 places; the second one for the second core");
        for (at_a_time, expected) in [(1, 40), (40, 2), (100, 2)] {
            let dispatch: Dispatch<Call, Instance> = Dispatch::new(at_a_time, 2);
            let started = (0..40).filter(|number| dispatch.push(call(*number)).start);
            assert_eq!(started.count(), expected, "{at_a_time} at a time");
        }
    }

    #[test]
    fn calls_go_in_order_to_whoever_has_room() {
        let dispatch = Dispatch::new(4, 1);
        let (full, roomy) = (Instance::open(&dispatch, 0), Instance::open(&dispatch, 4));
        for number in 0..4 {
            assert_eq!(dispatch.push(call(number)), wakes(&roomy));
        }
        assert!(dispatch.push(call(4)).start, "five wait, for four places");
        for number in 0..4 {
            assert_eq!(roomy.takes(&dispatch), Some(number));
        }
        assert_eq!(roomy.takes(&dispatch), None, "it is full");
        dispatch.ended(&full);
        assert_eq!(dispatch.instances(), [roomy]);
    }

    #[test]
    fn room_is_known_before_an_instance_has_its_turn() {
        let dispatch = Dispatch::new(2, 1);
        let instance = Instance::open(&dispatch, 2);
        for number in 0..2 {
            dispatch.push(call(number));
            assert_eq!(instance.takes(&dispatch), Some(number));
        }
        dispatch.rests(&instance, true);
        assert!(!instance.loses_one(&dispatch), "nobody waits for the place");
        assert_eq!(dispatch.push(call(2)), wakes(&instance));
        assert!(dispatch.push(call(3)).start, "two wait, for one place");
        assert_eq!(instance.takes(&dispatch), Some(2));
        assert!(instance.loses_one(&dispatch), "one waits for it");
    }

    #[test]
    fn one_that_computes_takes_no_calls_and_is_not_counted_on() {
        let dispatch = Dispatch::new(2, 1);
        let (one, other) = (Instance::open(&dispatch, 2), Instance::open(&dispatch, 2));
        assert_eq!(dispatch.push(call(0)), wakes(&one));
        assert_eq!(one.takes(&dispatch), Some(0));
        assert_eq!(dispatch.push(call(1)), wakes(&other), "the first may compute");
        assert_eq!(other.takes(&dispatch), Some(1));
        assert_eq!(dispatch.push(call(2)), wakes(&one), "it may be done soon");
        dispatch.rests(&one, false);
        assert_eq!(dispatch.needs(), wakes(&other));
        dispatch.rests(&other, false);
        assert!(!one.loses_one(&dispatch));
        let needs = dispatch.needs();
        assert_eq!((needs.wake, needs.start), (None, true));
    }

    #[test]
    fn what_cannot_be_started_fails_the_youngest_without_room() {
        let dispatch = Dispatch::new(2, 1);
        let instance = Instance::open(&dispatch, 2);
        let started = (0..5).filter(|number| dispatch.push(call(*number)).start);
        assert_eq!(started.count(), 2);
        let failed: Vec<u32> = dispatch.not_started().iter().map(|call| call.0).collect();
        assert_eq!(failed, [4]);
        let failed: Vec<u32> = dispatch.not_started().iter().map(|call| call.0).collect();
        assert_eq!(failed, [2, 3]);
        assert_eq!(instance.takes(&dispatch), Some(0));
    }

    #[test]
    fn calls_that_are_given_up_need_nobody() {
        let dispatch: Dispatch<Call, Instance> = Dispatch::new(1, 1);
        let calls: Vec<Call> = (0..10).map(call).collect();
        let started = calls.iter().filter(|call| dispatch.push((*call).clone()).start);
        assert_eq!(started.count(), 10);
        for call in calls.iter().skip(1) {
            call.1.set(true);
            dispatch.give_up();
        }
        assert!(dispatch.state().waiting.len() < 4);
        let instance = Arc::new(Instance(AtomicUsize::new(2)));
        dispatch.started(&instance);
        assert_eq!(instance.takes(&dispatch), Some(0));
        assert_eq!(instance.takes(&dispatch), None);
        let nothing = Needs {
            wake: None,
            start: false,
        };
        assert_eq!(dispatch.needs(), nothing);
    }
}
