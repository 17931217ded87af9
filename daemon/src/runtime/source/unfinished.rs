//! Files that another program is writing, from the events of a watched folder. Half a file may be valid YAML that
//! contains fewer objects: such a file is not read until its writer closes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, ModifyKind};

/// A file that was not written to for this long is read even if its writer never closed it.
const QUIET: Duration = Duration::from_secs(2);

/// Files that were written to and not closed since, with the time of the last write.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    written: BTreeMap<PathBuf, Instant>,
}

impl Unfinished {
    /// Takes in an event. `is_file` says whether a path is a regular file and no link: creating a link opens nothing that
    /// is closed later.
    pub(super) fn take_in(
        &mut self,
        now: Instant,
        event: &notify::Event,
        is_file: impl Fn(&Path) -> bool,
    ) {
        for path in &event.paths {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    _ = self.written.insert(path.clone(), now)
                }
                EventKind::Create(_) if is_file(path) => _ = self.written.insert(path.clone(), now),
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(_))
                | EventKind::Remove(_) => _ = self.written.remove(path),
                _ => {}
            }
        }
    }

    /// The files that must not be read at `now`.
    pub(super) fn files(&mut self, now: Instant) -> BTreeSet<PathBuf> {
        self.written.retain(|_, last| now < *last + QUIET);
        self.written.keys().cloned().collect()
    }

    /// Whether a file may be read at `now` only because its writer is quiet.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.written.values().any(|last| now >= *last + QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, RenameMode};

    fn take_in(unfinished: &mut Unfinished, now: Instant, kind: EventKind) {
        let event = notify::Event::new(kind).add_path("all.yaml".into());
        unfinished.take_in(now, &event, |_| true);
    }

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[test]
    fn a_file_is_unfinished_until_its_writer_closes_it() {
        let (mut unfinished, now) = (Unfinished::default(), Instant::now());
        for begin in [EventKind::Create(CreateKind::File), WRITE] {
            for end in [
                EventKind::Access(AccessKind::Close(AccessMode::Write)),
                EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            ] {
                take_in(&mut unfinished, now, begin);
                assert_eq!(unfinished.files(now).len(), 1, "{begin:?}");
                take_in(&mut unfinished, now, end);
                assert!(unfinished.files(now).is_empty(), "{end:?}");
            }
        }
    }

    #[test]
    fn a_file_that_nothing_is_written_to_is_read_after_two_seconds() {
        let (mut unfinished, now) = (Unfinished::default(), Instant::now());
        take_in(&mut unfinished, now, WRITE);
        take_in(&mut unfinished, now + QUIET / 2, WRITE);
        assert!(!unfinished.is_due(now + QUIET));
        assert!(unfinished.is_due(now + QUIET * 2));
        assert!(unfinished.files(now + QUIET * 2).is_empty());
        assert!(!unfinished.is_due(now + QUIET * 2));
    }
}
