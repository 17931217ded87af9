//! Which object is at fault when the loop panics: named in the log while the panic unwinds.

use std::fmt::Display;
use std::thread;

use crate::api::ObjectKey;
use crate::source::Change;

/// Objects of one turn that are named.
const NAMED: usize = 8;

/// An object that is being worked on. The log names it if the work panics.
#[derive(Debug)]
pub struct Suspect<T: Display> {
    work: &'static str,
    object: T,
}

impl<T: Display> Suspect<T> {
    /// From now until this is dropped, `work` is done with the object: "reading", "deciding where to announce".
    pub const fn new(work: &'static str, object: T) -> Self {
        Self { work, object }
    }
}

impl<T: Display> Drop for Suspect<T> {
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

/// The changes of one turn of the loop. The log names their objects if the turn panics.
#[derive(Debug, Default)]
pub struct Turn {
    objects: Vec<String>,
    others: usize,
}

impl Turn {
    /// A change that is about to be taken in.
    pub fn add(&mut self, change: &Change) {
        if self.objects.len() >= NAMED {
            self.others += 1;
            return;
        }
        self.objects.push(match change {
            Change::Apply(key, _) | Change::Delete(key) => ObjectKey::to_string(key),
            Change::Reset(kind, list) => format!("all {} {}", list.len(), kind.full_name()),
            Change::Listed(kind, names) => format!("all {} {}", names.len(), kind.full_name()),
            Change::Unreadable(kind, _) | Change::Absent(kind, _) => kind.full_name().to_owned(),
        });
    }

    /// All of them have been worked on.
    pub fn end(&mut self) {
        self.objects.clear();
        self.others = 0;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if thread::panicking() && !self.objects.is_empty() {
            let others = match self.others {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            tracing::error!(
                objects = format!("{}{others}", self.objects.join(", ")),
                "the panic happened in the turn of the main loop that took in changes of these objects"
            );
        }
    }
}
