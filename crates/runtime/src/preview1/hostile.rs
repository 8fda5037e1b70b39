//! What a guest that means harm may call the socket functions with: anything. Nothing of it panics, waits within the host,
//! or reaches past its memory.

use super::calls::{self, Arguments, Call, Scene};
use super::memory::Memory;
use super::poll::{self, Subscription};
use super::sockets::{FIRST_FD, Sockets};
use crate::network::Network;
use kittiwake_core::clock::SystemClock;
use kittiwake_core::log::LogHub;
use kittiwake_core::outbound::Outbound;
use kittiwake_core::revision::RevisionKey;
use proptest::prelude::*;
use std::sync::Arc;
use std::task::{Context, Waker};

const MEMORY_BYTES: usize = 1024;

const CALLS: [Call; 20] = [
    Call::Open,
    Call::Bind,
    Call::Listen,
    Call::Accept,
    Call::AcceptFlags,
    Call::Connect,
    Call::Recv,
    Call::Read,
    Call::RecvFrom,
    Call::RecvFromPort,
    Call::Send,
    Call::SendTo,
    Call::Shutdown,
    Call::GetOption,
    Call::SetOption,
    Call::LocalAddress,
    Call::LocalAddressFamily,
    Call::PeerAddress,
    Call::PeerAddressFamily,
    Call::AddressInfo,
];

/// A number as guests hand it over: a place in memory, a length, a socket, or nothing that makes sense.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..u32::try_from(MEMORY_BYTES).unwrap(),
        3 => FIRST_FD..FIRST_FD + 4,
        3 => 0_u32..5,
        1 => any::<u32>(),
        1 => Just(u32::MAX),
    ]
}

/// Memory in which most words are places in it, so that what points somewhere is followed.
fn memory() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(number(), MEMORY_BYTES / 4)
        .prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

proptest! {
    #[test]
    fn any_calls_end_or_wait(
        mut bytes in memory(),
        made in proptest::collection::vec((0..CALLS.len(), proptest::array::uniform8(number())), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let hub = LogHub::new(Arc::new(SystemClock::new()));
        let log = hub.revision(&RevisionKey::new("default", "a"));
        // Nothing can be reached, so nothing of this machine is touched.
        let mut sockets = Sockets::new(Arc::<Network>::default(), Outbound::default());
        // A few that calls can be about.
        for _ in 0..2 {
            let mut scratch = vec![0; 16];
            let mut scene = Scene { memory: Memory(&mut scratch), sockets: &mut sockets, log: &log };
            let mut cx = Context::from_waker(Waker::noop());
            let arguments = Arguments([1, 2, 0, 0, 0, 0, 0, 0]);
            prop_assert!(calls::poll(Call::Open, &arguments, &mut scene, &mut cx).is_ready());
        }
        for (call, arguments) in made {
            let (call, arguments) = (CALLS[call], Arguments(arguments));
            let _ = call.time_limit(&mut sockets, &arguments);
            let mut scene = Scene { memory: Memory(&mut bytes), sockets: &mut sockets, log: &log };
            let _ = calls::poll(call, &arguments, &mut scene, &mut Context::from_waker(Waker::noop()));
        }
        prop_assert_eq!(bytes.len(), MEMORY_BYTES);
    }

    #[test]
    fn any_subscriptions_are_read_or_refused(mut bytes in memory(), at in number(), count in number()) {
        let _ = Subscription::read_all(&Memory(&mut bytes), at, count);
        let _ = poll::write(&mut Memory(&mut bytes), at, &[]);
    }
}
