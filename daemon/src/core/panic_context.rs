//! Logs which object was being processed when the control loop panics.

use std::fmt::Display;
use std::thread;

/// The object that is being processed. If the work panics, dropping this value logs the object.
#[derive(Debug)]
pub(crate) struct PanicContext<T: Display> {
    work: &'static str,
    object: T,
}

impl<T: Display> PanicContext<T> {
    /// `work` is what is done with the object until this value is dropped: "reading", "deciding
    /// where to announce".
    pub(crate) const fn new(work: &'static str, object: T) -> Self {
        Self { work, object }
    }
}

impl<T: Display> Drop for PanicContext<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                object = %self.object,
                "the control loop panicked while {} this object: change or delete it to avoid the \
                 panic, and report the bug",
                self.work
            );
        }
    }
}
