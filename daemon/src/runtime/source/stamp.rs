//! Whether files may have changed since they were read, without reading them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::walk::{STANDARD_INPUT, Walk};

/// The files of some paths, with what a write or a replacement changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(BTreeMap<PathBuf, Option<FileStamp>>);

/// Device, inode, size, and the seconds and nanoseconds of the last change.
type FileStamp = (u64, u64, u64, i64, i64);

impl Stamp {
    /// Looks at files and folders with their subfolders. Standard input never changes.
    pub(crate) fn of(paths: &[PathBuf]) -> Self {
        let files = Walk::of(paths).files.into_iter();
        let files = files.filter(|path| path != Path::new(STANDARD_INPUT));
        let stamps = files.map(|path| {
            let metadata = std::fs::metadata(&path).ok();
            let stamp = metadata.as_ref().map(stamp);
            (path, stamp)
        });
        Self(stamps.collect())
    }
}

fn stamp(file: &Metadata) -> FileStamp {
    let changed = (file.ctime(), file.ctime_nsec());
    (file.dev(), file.ino(), file.size(), changed.0, changed.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_differs_after_a_write_a_replacement_a_new_file_and_a_removal() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
        let look = || Stamp::of(&[folder.path().to_owned()]);
        write("a.yaml", "one");
        let first = look();
        assert_eq!(look(), first);
        write("a.yaml", "three");
        let second = look();
        assert_ne!(second, first);
        write("new", "other");
        assert_eq!(look(), second, "no manifest");
        std::fs::rename(path("new"), path("a.yaml")).expect("renamed");
        let third = look();
        assert_ne!(third, second);
        write("b.yaml", "");
        let fourth = look();
        assert_ne!(fourth, third);
        std::fs::remove_file(path("b.yaml")).expect("removed");
        assert_eq!(look(), third);
        assert_eq!(Stamp::of(&["-".into()]), Stamp::default());
    }
}
