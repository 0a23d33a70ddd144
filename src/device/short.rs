//! For tests: buffers that are one word too short.

use std::cell::Cell;

thread_local! {
    static LABEL: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs `work` while this thread's uploads with this label lack their last word.
pub(crate) fn uploads<T>(label: &'static str, work: impl FnOnce() -> T) -> T {
    LABEL.set(Some(label));
    let result = work();
    LABEL.set(None);
    result
}

/// The words that are uploaded under a label.
pub(super) fn cut<'w>(words: &'w [u32], label: &str) -> &'w [u32] {
    if LABEL.get() == Some(label) { &words[..words.len() - 1] } else { words }
}
