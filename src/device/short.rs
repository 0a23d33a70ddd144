//! For tests: buffers that are one word too short.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

thread_local! {
    static LABEL: Cell<Option<&'static str>> = const { Cell::new(None) };
    static SEEN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Runs `work` while this thread's uploads with this label lack their last word.
pub(crate) fn uploads<T>(label: &'static str, work: impl FnOnce() -> T) -> T {
    LABEL.set(Some(label));
    let result = work();
    LABEL.set(None);
    result
}

/// Runs `work`, and tells the labels of what this thread uploaded for it.
pub(crate) fn labels<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
    SEEN.take();
    let result = work();
    (result, SEEN.take())
}

/// The words that are uploaded under a label.
pub(super) fn cut<'w>(words: &'w [u32], label: &str) -> &'w [u32] {
    SEEN.with_borrow_mut(|seen| seen.insert(label.to_owned()));
    if LABEL.get() == Some(label) { &words[..words.len() - 1] } else { words }
}
