//! Lists the manifest files in some paths, and the folders that contain them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// This path means standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// Device and inode: a folder that was deleted and created again has another one.
pub(super) type FolderId = (u64, u64);

/// The result of a walk.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Files to read: those named directly, and the YAML and JSON files in folders. Sorted.
    pub files: BTreeSet<PathBuf>,
    /// Every listed folder. Each is listed once, even if links lead to it.
    pub folders: BTreeMap<PathBuf, FolderId>,
    /// Paths that can't be listed. All others are listed.
    pub errors: Vec<(PathBuf, io::Error)>,
    visited: BTreeSet<FolderId>,
}

impl Walk {
    /// Lists files and folders, with their subfolders.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut walk = Self::default();
        for path in paths {
            if path == Path::new(STANDARD_INPUT) {
                walk.files.insert(path.clone());
                continue;
            }
            match std::fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => walk.enter(path, &metadata),
                // A pipe or device is accepted if it is named directly.
                Ok(_) => _ = walk.files.insert(path.clone()),
                Err(error) => walk.errors.push((path.clone(), error)),
            }
        }
        walk
    }

    fn enter(&mut self, folder: &Path, metadata: &std::fs::Metadata) {
        // A link to a parent folder would loop.
        if !self.visited.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        match entries(folder) {
            Ok(entries) => {
                let id = (metadata.dev(), metadata.ino());
                self.folders.insert(folder.to_owned(), id);
                for entry in entries {
                    self.add(entry);
                }
            }
            Err(error) => self.errors.push((folder.to_owned(), error)),
        }
    }

    fn add(&mut self, path: PathBuf) {
        let known = path
            .extension()
            .is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => self.enter(&path, &metadata),
            // Reading from a pipe or device may block forever.
            Ok(metadata) if known && metadata.is_file() => _ = self.files.insert(path),
            Ok(_) => {}
            Err(error) if known => self.errors.push((path, error)),
            Err(_) => {}
        }
    }
}

/// The entries of a folder, sorted. Hidden names are skipped: Kubernetes mounts ConfigMaps with
/// hidden folders, whose files are also visible under their own names.
fn entries(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.insert(entry.path());
        }
    }
    Ok(found)
}

/// The identity of a folder; `None` if there is no folder.
pub(super) fn folder_id(path: &Path) -> Option<FolderId> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_dir().then(|| (metadata.dev(), metadata.ino()))
}
