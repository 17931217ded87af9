//! The manifest files at or under some paths, and the folders that contain them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::manifests::STANDARD_INPUT;

/// Device and inode: a folder that was deleted and created again has another one.
pub(super) type FolderId = (u64, u64);

/// What lies at some paths.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The files to read: what was named itself, and the YAML and JSON files in folders. In order.
    pub files: BTreeSet<PathBuf>,
    /// Every folder that was listed. Each folder is listed once, whatever links lead to it.
    pub folders: BTreeMap<PathBuf, FolderId>,
    /// What can't be listed. The rest is not affected.
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
                // Also a pipe or a device: somebody named it.
                Ok(_) => _ = walk.files.insert(path.clone()),
                Err(error) => walk.errors.push((path.clone(), error)),
            }
        }
        walk
    }

    fn enter(&mut self, folder: &Path, metadata: &std::fs::Metadata) {
        // A link to a parent would lead in a circle.
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
            // To read from a pipe or a device may block for ever.
            Ok(metadata) if known && metadata.is_file() => _ = self.files.insert(path),
            Ok(_) => {}
            Err(error) if known => self.errors.push((path, error)),
            Err(_) => {}
        }
    }
}

/// What a folder contains, sorted. Hidden names are skipped: Kubernetes mounts ConfigMaps through hidden folders, whose
/// content shows up under its own name.
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

/// The identity of a folder; none where there is no folder.
pub(super) fn folder_id(path: &Path) -> Option<FolderId> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_dir().then(|| (metadata.dev(), metadata.ino()))
}
