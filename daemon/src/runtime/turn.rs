//! Records which objects the control loop is processing, so that the log can name them after a
//! panic.

use std::thread;

use crate::core::api::ObjectKey;
use crate::core::index::change::Change;

/// At most this many objects are named.
const NAMED: usize = 8;

/// The changes of the current turn of the control loop. Dropped during a panic, it logs their
/// objects.
#[derive(Debug, Default)]
pub(super) struct Turn {
    objects: Vec<String>,
    others: usize,
}

impl Turn {
    /// Records a change before it is applied.
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

    /// All recorded changes were processed.
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
                "panic while the control loop processed changes of these objects"
            );
        }
    }
}
