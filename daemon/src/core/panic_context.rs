//! Which object is at fault when the loop panics: named in the log while the panic unwinds.

use std::fmt::Display;
use std::thread;

/// An object that is being worked on. The log names it if the work panics.
#[derive(Debug)]
pub(crate) struct PanicContext<T: Display> {
    work: &'static str,
    object: T,
}

impl<T: Display> PanicContext<T> {
    /// From now until this is dropped, `work` is done with the object: "reading", "deciding where to announce".
    pub(crate) const fn new(work: &'static str, object: T) -> Self {
        Self { work, object }
    }
}

impl<T: Display> Drop for PanicContext<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                object = %self.object,
                "the panic happened while {} this object: change or delete it to get around the panic",
                self.work
            );
        }
    }
}
