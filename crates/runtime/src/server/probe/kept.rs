//! What a command prints, of which the beginning is kept for a message.

use crate::host::output::{Stream, Takes};
use std::sync::{Mutex, PoisonError};

/// Bytes that are kept, of both streams together. Conditions and log lines have them; Kubernetes keeps ten times as much in
/// an event.
const KEPT_BYTES_MAX: usize = 1024;
/// See the module's documentation. Clones keep together.
pub(super) type Kept = Stream<Beginning>;

/// The beginning of what is printed.
#[derive(Debug, Default)]
pub(crate) struct Beginning(Mutex<Vec<u8>>);

impl Takes for Beginning {
    fn accept(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
    }
}

impl Beginning {
    /// It in one line; `None` when nothing was printed.
    pub(super) fn line(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let words: Vec<&str> = text.split_whitespace().collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_kept_in_one_line() {
        let kept = Kept::default();
        assert_eq!(kept.taker().line(), None);
        kept.accept(b" no\n");
        kept.clone().accept(b"\xff database\n");
        assert_eq!(kept.taker().line().unwrap(), "no \u{fffd} database");
        kept.accept(&[b'x'; 4 * KEPT_BYTES_MAX]);
        assert_eq!(
            kept.taker().line().unwrap().chars().filter(|c| *c == 'x').count(),
            KEPT_BYTES_MAX - 15
        );
    }
}
