//! Shares of the CPUs, as a container's CPU request sets them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// How long dead processes may still be in a group.
const REMOVAL_ATTEMPTS: u32 = 50;

/// A control group with a CPU weight. Dropping it removes it; its processes must have ended.
#[derive(Debug)]
pub struct CpuGroup {
    path: PathBuf,
}

impl CpuGroup {
    /// Creates a group with this number of shares: 1024 for each requested CPU, 2 without a
    /// request.
    ///
    /// # Errors
    /// When this machine has no CPU controller, or this process is not root.
    pub fn new(name: &str, shares: u64) -> Result<Self> {
        let name = format!("ferrolb-{}-{name}", std::process::id());
        let v1 = Path::new(ROOT).join("cpu");
        let (parent, file, value) = if v1.is_dir() {
            (v1, "cpu.shares", shares)
        } else {
            // The conversion of the OCI runtimes.
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            let root = PathBuf::from(ROOT);
            fs::write(root.join("cgroup.subtree_control"), "+cpu").context("CPU controller")?;
            (root, "cpu.weight", weight)
        };
        let group = Self {
            path: parent.join(name),
        };
        let what = || format!("create {}", group.path.display());
        fs::create_dir(&group.path).with_context(what)?;
        fs::write(group.path.join(file), value.to_string()).with_context(what)?;
        Ok(group)
    }

    /// Moves a process with all its threads into the group.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn add(&self, pid: u32) -> Result<()> {
        let file = self.path.join("cgroup.procs");
        fs::write(&file, pid.to_string()).with_context(|| format!("{pid} to {}", file.display()))
    }

    /// Moves a process back into the group in which the tests run.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn leave(pid: u32) -> Result<()> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let v1 = Path::new(ROOT).join("cpu");
        let (parent, marker) = if v1.is_dir() {
            (v1, ":cpu:")
        } else {
            (PathBuf::from(ROOT), "0::")
        };
        let path = own
            .lines()
            .find_map(|line| Some(line.split_once(marker)?.1));
        let path = path.context("/proc/self/cgroup has no group")?;
        let file = parent
            .join(path.trim_start_matches('/'))
            .join("cgroup.procs");
        fs::write(&file, pid.to_string()).with_context(|| format!("{pid} to {}", file.display()))
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        for _ in 0..REMOVAL_ATTEMPTS {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("cannot remove {}", self.path.display());
    }
}
