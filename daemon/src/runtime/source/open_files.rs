//! Tracks files that another program is writing, from the events of a watched folder. Half a file
//! may be valid YAML with fewer objects, so a file is not read until its writer closes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, ModifyKind};

/// A file without a write for this long is read even if its writer never closed it.
const QUIET: Duration = Duration::from_secs(2);

/// Files that were written and not closed since, with the time of the last write.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    written: BTreeMap<PathBuf, Instant>,
}

impl OpenFiles {
    /// Records an event. `is_file` says whether a path is a regular file: creating a link opens no
    /// file that would be closed later.
    pub(super) fn record(
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

    /// Whether a file may be read at `now` only because there was no write for [`QUIET`].
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.written.values().any(|last| now >= *last + QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, RenameMode};

    fn record(unfinished: &mut OpenFiles, now: Instant, kind: EventKind) {
        let event = notify::Event::new(kind).add_path("all.yaml".into());
        unfinished.record(now, &event, |_| true);
    }

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[test]
    fn a_file_is_unfinished_until_its_writer_closes_it() {
        let (mut unfinished, now) = (OpenFiles::default(), Instant::now());
        for start in [EventKind::Create(CreateKind::File), WRITE] {
            for end in [
                EventKind::Access(AccessKind::Close(AccessMode::Write)),
                EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            ] {
                record(&mut unfinished, now, start);
                assert_eq!(unfinished.files(now).len(), 1, "{start:?}");
                record(&mut unfinished, now, end);
                assert!(unfinished.files(now).is_empty(), "{end:?}");
            }
        }
    }

    #[test]
    fn a_file_without_writes_is_read_after_two_seconds() {
        let (mut unfinished, now) = (OpenFiles::default(), Instant::now());
        record(&mut unfinished, now, WRITE);
        record(&mut unfinished, now + QUIET / 2, WRITE);
        assert!(!unfinished.is_due(now + QUIET));
        assert!(unfinished.is_due(now + QUIET * 2));
        assert!(unfinished.files(now + QUIET * 2).is_empty());
        assert!(!unfinished.is_due(now + QUIET * 2));
    }
}
