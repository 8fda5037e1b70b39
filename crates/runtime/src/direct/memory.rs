//! A guest's memory, as its calls of the host have to do with it: what it hands over is read from there, and what it is
//! handed is written there, in the forms of the component model's canonical ABI (its `CanonicalABI.md`, "loading",
//! "storing" and "flattening").

use crate::host::{HOST_CALL_BYTES_MAX, Host};
use wasmtime::component::Resource;
use wasmtime::{Caller, Memory};

/// What the host keeps of a guest that is called directly.
#[derive(Default)]
pub(crate) struct State {
    memory: Option<Memory>,
    /// A result that waits for room.
    waiting: Option<Box<Waiting>>,
}

impl State {
    /// The guest has its memory.
    pub(super) fn set_memory(&mut self, memory: Memory) {
        self.memory = Some(memory);
    }
}

/// What is wrong with what the guest did, which ends it as a trap does.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Fault {
    #[error("the guest handed over memory that it does not have")]
    OutOfBounds,
    #[error("the guest handed over an address that is not aligned")]
    Unaligned,
    #[error("the guest handed over a string that is not UTF-8")]
    NotUtf8,
    #[error("the guest handed over a value that its type does not have")]
    NoSuchCase,
    #[error("the guest handed over more than {HOST_CALL_BYTES_MAX} bytes in one call")]
    TooMuch,
    #[error("the guest called the host before it had a memory, or out of its allocator")]
    NotNow,
    #[error("the result does not fit its type")]
    Misfit,
}

/// The guest that calls.
pub(super) struct Guest<'a> {
    pub host: &'a mut Host,
    memory: &'a mut [u8],
    /// Bytes that it may still hand over in this call.
    left: usize,
}

/// A handle as the guest has it: one more than the number in the host's table, since no handle is 0.
fn rep(handle: u32) -> u32 {
    handle.wrapping_sub(1)
}

/// The resource that a guest gives away.
pub(super) fn owned<T: 'static>(handle: u32) -> Resource<T> {
    Resource::new_own(rep(handle))
}

/// The resource that a guest lends.
pub(super) fn lent<T: 'static>(handle: u32) -> Resource<T> {
    Resource::new_borrow(rep(handle))
}

/// What a guest gets for a resource.
pub(super) fn handle<T: 'static>(resource: &Resource<T>) -> u32 {
    resource.rep().wrapping_add(1)
}

/// The guest that calls.
pub(super) fn guest<'a>(caller: &'a mut Caller<'_, Host>) -> wasmtime::Result<Guest<'a>> {
    let state = caller.data().direct();
    let memory = state
        .memory
        .filter(|_| state.waiting.is_none())
        .ok_or(Fault::NotNow)?;
    let (memory, host) = memory.data_and_store_mut(caller);
    Ok(Guest {
        host,
        memory,
        left: HOST_CALL_BYTES_MAX,
    })
}

impl Guest<'_> {
    fn read(&mut self, at: u32, bytes: u32) -> Result<&[u8], Fault> {
        let (at, bytes) = (at as usize, bytes as usize);
        self.left = self.left.checked_sub(bytes).ok_or(Fault::TooMuch)?;
        let end = at.checked_add(bytes).ok_or(Fault::OutOfBounds)?;
        self.memory.get(at..end).ok_or(Fault::OutOfBounds)
    }

    /// A `list<u8>`.
    pub(super) fn bytes(&mut self, at: u32, bytes: u32) -> Result<Vec<u8>, Fault> {
        self.read(at, bytes).map(<[u8]>::to_vec)
    }

    /// A `string`.
    pub(super) fn string(&mut self, at: u32, bytes: u32) -> Result<String, Fault> {
        let text = self.read(at, bytes)?;
        std::str::from_utf8(text)
            .map(str::to_owned)
            .map_err(|_| Fault::NotUtf8)
    }

    /// An `option<string>`.
    pub(super) fn maybe_string(&mut self, is: u32, at: u32, bytes: u32) -> Result<Option<String>, Fault> {
        maybe(is)?.then(|| self.string(at, bytes)).transpose()
    }

    /// The elements of a list, each so many words of 32 bits.
    pub(super) fn words<const WORDS: usize>(
        &mut self,
        at: u32,
        elements: u32,
    ) -> Result<Vec<[u32; WORDS]>, Fault> {
        aligned(at, 4)?;
        let each = 4 * WORDS;
        let bytes = (elements as usize).checked_mul(each).ok_or(Fault::TooMuch)?;
        let bytes = self.read(at, u32::try_from(bytes).map_err(|_| Fault::TooMuch)?)?;
        let words = |element: &[u8]| {
            let mut words = [0; WORDS];
            for (word, bytes) in words.iter_mut().zip(element.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            words
        };
        Ok(bytes.chunks_exact(each).map(words).collect())
    }

    /// A `list<list<u8>>`.
    pub(super) fn lists(&mut self, at: u32, elements: u32) -> Result<Vec<Vec<u8>>, Fault> {
        let lists = self.words::<2>(at, elements)?;
        lists
            .into_iter()
            .map(|[at, bytes]| self.bytes(at, bytes))
            .collect()
    }

    /// Writes bytes where the guest said.
    pub(super) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Fault> {
        write(self.memory, at, bytes)
    }

    /// Writes a result that needs no room other than where the guest said.
    pub(super) fn answer<T: Stored>(mut self, at: u32, result: T) -> wasmtime::Result<()> {
        match Layout::of(result).place(&mut self, at)? {
            None => Ok(()),
            Some(_) => Err(Fault::Misfit.into()),
        }
    }
}

/// Whether an `option` is there, or a `result` an error.
pub(super) fn maybe(discriminant: u32) -> Result<bool, Fault> {
    match discriminant {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::NoSuchCase),
    }
}

fn aligned(at: u32, align: u32) -> Result<(), Fault> {
    if at.is_multiple_of(align) {
        Ok(())
    } else {
        Err(Fault::Unaligned)
    }
}

fn write(memory: &mut [u8], at: u32, bytes: &[u8]) -> Result<(), Fault> {
    let at = at as usize;
    let end = at.checked_add(bytes.len()).ok_or(Fault::OutOfBounds)?;
    memory
        .get_mut(at..end)
        .ok_or(Fault::OutOfBounds)?
        .copy_from_slice(bytes);
    Ok(())
}

/// What a function answers for which the guest makes room: see [`super::rewrite`]. `room` is what the wrapper told.
pub(super) fn answer_in_room<T: Stored>(
    caller: &mut Caller<'_, Host>,
    room: i64,
    at: u32,
    compute: impl FnOnce(&mut Guest<'_>) -> wasmtime::Result<T>,
) -> wasmtime::Result<i64> {
    if room >= 0 {
        return go_on(caller, room);
    }
    let mut guest = guest(caller)?;
    let result = compute(&mut guest)?;
    begin(guest, at, result)
}

/// Answers, or says which room is needed first.
pub(super) fn begin<T: Stored>(mut guest: Guest<'_>, at: u32, result: T) -> wasmtime::Result<i64> {
    match Layout::of(result).place(&mut guest, at)? {
        None => Ok(DONE),
        Some(waiting) => {
            let wanted = waiting.wanted();
            guest.host.direct_mut().waiting = Some(Box::new(waiting));
            Ok(wanted)
        }
    }
}

/// The guest has made room; the next is asked for, or the result written.
pub(super) fn go_on(caller: &mut Caller<'_, Host>, room: i64) -> wasmtime::Result<i64> {
    let state = caller.data_mut().direct_mut();
    let mut waiting = state.waiting.take().ok_or(Fault::NotNow)?;
    waiting
        .rooms
        .push(u32::try_from(room).map_err(|_| Fault::OutOfBounds)?);
    let wanted = waiting.wanted();
    if wanted == DONE {
        let guest = guest(caller)?;
        waiting.layout.write(guest.memory, waiting.at, &waiting.rooms)?;
    } else {
        state.waiting = Some(waiting);
    }
    Ok(wanted)
}

/// There is no room to be made (any more).
const DONE: i64 = -1;

/// A result, and the rooms that were made for it until now.
struct Waiting {
    layout: Layout,
    at: u32,
    rooms: Vec<u32>,
}

impl Waiting {
    /// The room that is needed next, as the wrapper wants it.
    fn wanted(&self) -> i64 {
        self.layout.pieces.get(self.rooms.len()).map_or(DONE, |piece| {
            let bytes = u32::try_from(piece.content.len()).unwrap_or(u32::MAX);
            (i64::from(piece.align) << 32) | i64::from(bytes)
        })
    }
}

/// A result as it will be in memory: what the guest expects where it said, and the strings and lists of it elsewhere.
pub(super) struct Layout {
    first: Vec<u8>,
    align: u32,
    pieces: Vec<Piece>,
}

struct Piece {
    content: Vec<u8>,
    align: u32,
    /// Where its address belongs.
    told: Place,
}

/// A place in a layout: in the first part, or in a piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    piece: Option<usize>,
    at: usize,
}

impl Place {
    fn plus(self, bytes: usize) -> Self {
        Self {
            at: self.at + bytes,
            ..self
        }
    }
}

impl Layout {
    fn of<T: Stored>(result: T) -> Self {
        let mut layout = Self {
            first: vec![0; T::SIZE],
            align: u32::try_from(T::ALIGN).unwrap_or(1),
            pieces: Vec::new(),
        };
        result.store(&mut layout, Place { piece: None, at: 0 });
        layout
    }

    fn part(&mut self, piece: Option<usize>) -> Option<&mut Vec<u8>> {
        match piece {
            None => Some(&mut self.first),
            Some(index) => self.pieces.get_mut(index).map(|piece| &mut piece.content),
        }
    }

    fn put(&mut self, place: Place, bytes: &[u8]) {
        let Some(part) = self.part(place.piece) else {
            return;
        };
        if let Some(target) = part.get_mut(place.at..place.at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
    }

    /// A list of `elements` in a piece of its own.
    fn list(&mut self, place: Place, content: Vec<u8>, align: usize, elements: usize) -> usize {
        self.put(
            place.plus(4),
            &u32::try_from(elements).unwrap_or(u32::MAX).to_le_bytes(),
        );
        self.pieces.push(Piece {
            content,
            align: u32::try_from(align).unwrap_or(1),
            told: place,
        });
        self.pieces.len() - 1
    }

    /// Writes it if it needs no room.
    fn place(self, guest: &mut Guest<'_>, at: u32) -> Result<Option<Waiting>, Fault> {
        if !self.pieces.is_empty() {
            let rooms = Vec::with_capacity(self.pieces.len());
            return Ok(Some(Waiting {
                layout: self,
                at,
                rooms,
            }));
        }
        self.write(guest.memory, at, &[])?;
        Ok(None)
    }

    fn write(mut self, memory: &mut [u8], at: u32, rooms: &[u32]) -> Result<(), Fault> {
        let told: Vec<_> = self.pieces.iter().map(|piece| piece.told).collect();
        for (place, room) in told.into_iter().zip(rooms) {
            self.put(place, &room.to_le_bytes());
        }
        aligned(at, self.align)?;
        write(memory, at, &self.first)?;
        for (piece, room) in self.pieces.iter().zip(rooms) {
            aligned(*room, piece.align)?;
            write(memory, *room, &piece.content)?;
        }
        Ok(())
    }
}

/// A value that a guest is handed through its memory.
pub(super) trait Stored {
    /// In bytes.
    const SIZE: usize;
    /// In bytes.
    const ALIGN: usize;

    /// Puts it where it belongs.
    fn store(self, layout: &mut Layout, place: Place);
}

/// The next multiple of an alignment.
const fn align_to(bytes: usize, align: usize) -> usize {
    bytes.div_ceil(align) * align
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

macro_rules! stored_numbers {
    ($($number:ty),*) => {$(
        impl Stored for $number {
            const SIZE: usize = size_of::<$number>();
            const ALIGN: usize = Self::SIZE;

            fn store(self, layout: &mut Layout, place: Place) {
                layout.put(place, &self.to_le_bytes());
            }
        }
    )*};
}

stored_numbers!(u8, u16, u32, u64);

impl Stored for () {
    const SIZE: usize = 0;
    const ALIGN: usize = 1;

    fn store(self, _layout: &mut Layout, _place: Place) {}
}

impl<T: 'static> Stored for Resource<T> {
    const SIZE: usize = 4;
    const ALIGN: usize = 4;

    fn store(self, layout: &mut Layout, place: Place) {
        handle(&self).store(layout, place);
    }
}

/// A `list<u8>`.
pub(super) struct ByteList(pub Vec<u8>);

impl Stored for ByteList {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;

    fn store(self, layout: &mut Layout, place: Place) {
        let bytes = self.0.len();
        layout.list(place, self.0, 1, bytes);
    }
}

impl Stored for String {
    const SIZE: usize = ByteList::SIZE;
    const ALIGN: usize = ByteList::ALIGN;

    fn store(self, layout: &mut Layout, place: Place) {
        ByteList(self.into_bytes()).store(layout, place);
    }
}

impl<T: Stored> Stored for Vec<T> {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;

    fn store(self, layout: &mut Layout, place: Place) {
        let content = vec![0; T::SIZE * self.len()];
        let piece = Some(layout.list(place, content, T::ALIGN, self.len()));
        for (index, element) in self.into_iter().enumerate() {
            let at = index * T::SIZE;
            element.store(layout, Place { piece, at });
        }
    }
}

impl<A: Stored, B: Stored> Stored for (A, B) {
    const SIZE: usize = align_to(align_to(A::SIZE, B::ALIGN) + B::SIZE, Self::ALIGN);
    const ALIGN: usize = max(A::ALIGN, B::ALIGN);

    fn store(self, layout: &mut Layout, place: Place) {
        self.0.store(layout, place);
        self.1.store(layout, place.plus(align_to(A::SIZE, B::ALIGN)));
    }
}

/// Stores the case of a variant whose largest payloads have this alignment.
pub(super) fn store_case<T: Stored>(layout: &mut Layout, place: Place, case: u8, payload: T, align: usize) {
    case.store(layout, place);
    payload.store(layout, place.plus(align_to(1, align)));
}

impl<T: Stored, E: Stored> Stored for Result<T, E> {
    const SIZE: usize = align_to(
        align_to(1, max(T::ALIGN, E::ALIGN)) + max(T::SIZE, E::SIZE),
        Self::ALIGN,
    );
    const ALIGN: usize = max(T::ALIGN, E::ALIGN);

    fn store(self, layout: &mut Layout, place: Place) {
        match self {
            Ok(value) => store_case(layout, place, 0, value, Self::ALIGN),
            Err(error) => store_case(layout, place, 1, error, Self::ALIGN),
        }
    }
}

impl<T: Stored> Stored for Option<T> {
    const SIZE: usize = <Result<T, ()>>::SIZE;
    const ALIGN: usize = T::ALIGN;

    fn store(self, layout: &mut Layout, place: Place) {
        match self {
            None => store_case(layout, place, 0, (), Self::ALIGN),
            Some(value) => store_case(layout, place, 1, value, Self::ALIGN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, FieldSizePayload, Method};

    /// The memory after a result was written at 8, each piece at the next multiple of 32 from 64 on.
    fn written<T: Stored>(result: T) -> Vec<u8> {
        let mut memory = vec![0xff; 256];
        let layout = Layout::of(result);
        let rooms: Vec<u32> = (0..layout.pieces.len()).map(|nth| 64 + 32 * nth as u32).collect();
        layout.write(&mut memory, 8, &rooms).unwrap();
        memory
    }

    fn words(memory: &[u8], at: usize, count: usize) -> Vec<u32> {
        let words = memory[at..at + 4 * count].chunks_exact(4);
        words
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn sizes_are_those_of_the_canonical_abi() {
        type Got = Option<Result<Result<Option<Resource<()>>, ErrorCode>, ()>>;
        for (name, (size, align), expected) in [
            (
                "result<_, _>",
                (<Result<(), ()>>::SIZE, <Result<(), ()>>::ALIGN),
                (1, 1),
            ),
            (
                "result<u64, stream-error>",
                (<Result<u64, Resource<()>>>::SIZE, 8),
                (16, 8),
            ),
            (
                "option<string>",
                (<Option<String>>::SIZE, <Option<String>>::ALIGN),
                (12, 4),
            ),
            (
                "tuple<string, list<u8>>",
                (<(String, ByteList)>::SIZE, 4),
                (16, 4),
            ),
            ("tuple<u64, u32>", (<(u64, u32)>::SIZE, 8), (16, 8)),
            (
                "field-size-payload",
                (FieldSizePayload::SIZE, FieldSizePayload::ALIGN),
                (20, 4),
            ),
            ("method", (Method::SIZE, Method::ALIGN), (12, 4)),
            ("error-code", (ErrorCode::SIZE, ErrorCode::ALIGN), (32, 8)),
            (
                "result<_, error-code>",
                (<Result<(), ErrorCode>>::SIZE, 8),
                (40, 8),
            ),
            (
                "what future-trailers.get answers",
                (Got::SIZE, Got::ALIGN),
                (56, 8),
            ),
        ] {
            assert_eq!((size, align), expected, "{name}");
        }
    }

    #[test]
    fn strings_and_lists_go_into_the_room_that_was_made() {
        let memory = written(vec![
            ("a".to_owned(), ByteList(vec![1, 2])),
            (String::new(), ByteList(vec![3])),
        ]);
        assert_eq!(words(&memory, 8, 2), [64, 2], "where the list is, and its length");
        assert_eq!(words(&memory, 64, 8), [96, 1, 128, 2, 160, 0, 192, 1]);
        assert_eq!(
            (memory[96], &memory[128..130], memory[192]),
            (b'a', &[1, 2][..], 3)
        );
    }

    #[test]
    fn cases_have_their_payload_where_its_alignment_wants_it() {
        let memory = written(Err::<u64, ErrorCode>(ErrorCode::HttpRequestBodySize(Some(7))));
        assert_eq!((memory[8], memory[16], memory[24], memory[32]), (1, 17, 1, 7));
        let memory = written(Some(Method::Other("X".to_owned())));
        assert_eq!(
            (memory[8], memory[12], words(&memory, 16, 2)),
            (1, 9, vec![64, 1])
        );
        assert_eq!(memory[64], b'X');
        let memory = written(None::<u32>);
        assert_eq!(memory[8], 0);
    }

    #[test]
    fn addresses_are_checked() {
        let write = |at| Layout::of(7_u32).write(&mut [0; 16], at, &[]);
        assert!(write(12).is_ok());
        assert!(matches!(write(13), Err(Fault::Unaligned)));
        assert!(matches!(write(16), Err(Fault::OutOfBounds)));
        assert!(matches!(write(u32::MAX - 3), Err(Fault::OutOfBounds)));
        let in_room = |room| Layout::of(vec![7_u32]).write(&mut [0; 16], 0, &[room]);
        assert!(in_room(8).is_ok());
        assert!(matches!(in_room(9), Err(Fault::Unaligned)));
        assert!(matches!(in_room(64), Err(Fault::OutOfBounds)));
    }

    #[test]
    fn handles_are_never_zero() {
        let resource = Resource::<()>::new_own(0);
        assert_eq!(handle(&resource), 1);
        assert_eq!(owned::<()>(1).rep(), 0);
        assert_eq!(lent::<()>(0).rep(), u32::MAX, "which no table has");
    }
}
