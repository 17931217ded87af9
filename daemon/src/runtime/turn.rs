//! The objects of one turn of the control loop: the log names them if the turn panics.

use std::thread;

use crate::core::api::ObjectKey;
use crate::core::index::change::Change;

/// Objects of one turn that are named.
const NAMED: usize = 8;

/// The changes of one turn of the loop. The log names their objects if the turn panics.
#[derive(Debug, Default)]
pub(super) struct Turn {
    objects: Vec<String>,
    others: usize,
}

impl Turn {
    /// A change that is about to be taken in.
    pub(super) fn add(&mut self, change: &Change) {
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
    pub(super) fn end(&mut self) {
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
