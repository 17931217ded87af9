//! [`scenario`] runs one lab test; [`Scratch`] is the folder of its files.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

/// Number of lines that a failed test prints from the end of each log.
const TAIL_LINES: usize = 25;

/// Runs one lab test. The [`Scratch`] folder outlives everything that the test starts.
///
/// # Panics
/// When the test returns an error, after printing the end of each log and the path of the folder.
pub fn scenario(name: &str, test: impl FnOnce(&Scratch) -> Result<()>) {
    let outcome = require_root()
        .and_then(|()| {
            let _one_at_a_time = sweep_lock()?;
            crate::netns::sweep()
        })
        .and_then(|()| Scratch::new(name))
        .map(|scratch| {
            // Dropping the scratch folder prints the logs while this thread panics.
            if let Err(error) = test(&scratch) {
                panic!("{name}: {error:#}");
            }
        });
    if let Err(error) = outcome {
        panic!("{name}: cannot set up: {error:#}");
    }
}

/// Two test programs must not clean up after the same killed one. The lock ends with the file.
///
/// # Errors
/// When the file can't be created or locked.
pub(crate) fn sweep_lock() -> Result<File> {
    let root = scratch_root()?;
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    let lock = File::create(root.join("sweep.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// A lab test without root fails; it is never skipped.
fn require_root() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let root = status
        .lines()
        .any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]));
    ensure!(
        root,
        "the lab creates network namespaces and needs root: run it with sudo"
    );
    Ok(())
}

/// The folder of a test: configuration files, sockets, and one `NAME.log` per process. It is
/// removed when the test passes; when it fails, the folder stays and the end of each log is
/// printed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Part of another scratch folder, which prints the logs and removes the files.
    nested: bool,
}

impl Scratch {
    /// Creates `/tmp/ferrolb-lab-UID/PID-N-NAME`. The path is short because control sockets are in
    /// the folder and the path of a socket has at most 107 octets.
    ///
    /// # Errors
    /// When the folder can't be created.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = scratch_root()?.join(format!("{}-{unique}-{name}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self {
            path,
            nested: false,
        })
    }

    /// Creates a folder inside this one, for a part of the test that runs in parallel with others.
    ///
    /// # Errors
    /// When the folder can't be created.
    pub fn within(&self, name: &str) -> Result<Self> {
        let path = self.file(name);
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, nested: true })
    }

    /// Path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Prints the end of every log to stderr.
    fn print_logs(&self) {
        for log in logs(&self.path) {
            eprintln!("---- {} (last {TAIL_LINES} lines)", log.display());
            eprintln!("{}", tail(&log));
        }
        eprintln!("---- all files of this test: {}", self.path.display());
    }
}

/// Parent of this user's scratch folders. One per user, so that unit tests of an unprivileged user
/// do not fail on folders that root has left.
///
/// # Errors
/// When `/proc/self` can't be read.
pub(crate) fn scratch_root() -> Result<PathBuf> {
    let user = fs::metadata("/proc/self").context("/proc/self")?.uid();
    Ok(PathBuf::from(format!("/tmp/ferrolb-lab-{user}")))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.nested {
            return;
        }
        if std::thread::panicking() {
            self.print_logs();
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The logs in a folder and its subfolders, sorted.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut entries: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let own = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    own.chain(folders.iter().flat_map(|folder| logs(folder)))
        .collect()
}

/// The last lines of a file, or the error if it can't be read.
pub(crate) fn tail(path: &Path) -> String {
    match fs::read(path) {
        Ok(octets) => {
            let text = String::from_utf8_lossy(&octets);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
        }
        Err(error) => format!("(cannot read: {error})"),
    }
}
