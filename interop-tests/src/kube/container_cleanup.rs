//! Cleans up after containers, which outlive containerd: processes, mounts and network namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::eventually::eventually;
use crate::process::{run, signal_pid};
use crate::scenario::scratch_root;

/// Cleans up after test processes that were killed or interrupted.
pub(super) fn sweep() -> Result<()> {
    let Ok(entries) = fs::read_dir(scratch_root()?) else {
        return Ok(()); // no test has run on this machine
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name
            .split('-')
            .next()
            .and_then(|pid| pid.parse::<u32>().ok())
        else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            clean(&entry.path(), &network_namespaces(&entry.path())?)?;
        }
    }
    Ok(())
}

/// Inode numbers of the network namespaces of a folder's containers, which must be running.
pub(super) fn network_namespaces(folder: &Path) -> Result<BTreeSet<u64>> {
    let processes = container_processes(folder)?;
    Ok(processes
        .into_iter()
        .filter_map(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).ok())
        .map(|namespace| namespace.ino())
        .collect())
}

/// Kills every container with files under `folder` and its shim, unmounts everything under
/// `folder`, and deletes those of these network namespaces that containerd created.
pub(super) fn clean(folder: &Path, namespaces: &BTreeSet<u64>) -> Result<()> {
    eventually("containers ended", Duration::from_secs(20), || {
        let processes = container_processes(folder)?;
        for &pid in &processes {
            // Fails if the process has ended, alone or with the first process of its container.
            let _ = signal_pid("KILL", pid);
        }
        ensure!(processes.is_empty(), "{} processes left", processes.len());
        Ok(())
    })?;
    for mount in mounts_under(folder)? {
        run(Command::new("umount").arg("--lazy").arg(mount))?;
    }
    delete_cni_namespaces(namespaces)?;
    remove_log_links(folder)
}

/// Shims with the folder in their command line, and processes with their root file system in it.
fn container_processes(folder: &Path) -> Result<Vec<u32>> {
    let inside = format!("{}/", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Reading fails for a process that has ended and for kernel threads.
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let mounts = String::from_utf8_lossy(&read("mountinfo")).into_owned();
        let is_shim = command.contains("containerd-shim") && command.contains(&inside);
        let has_root = mounts
            .lines()
            .any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&inside));
        if is_shim || has_root {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Mount points under a folder, innermost first.
fn mounts_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    points.reverse();
    Ok(points)
}

/// Deletes containerd's Pod namespaces (`cni-UUID`) with these inode numbers.
fn delete_cni_namespaces(inodes: &BTreeSet<u64>) -> Result<()> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let inode = fs::metadata(entry.path()).map(|namespace| namespace.ino());
        if name.starts_with("cni-") && inode.is_ok_and(|inode| inodes.contains(&inode)) {
            run(Command::new("ip").args(["netns", "delete", &name]))?;
        }
    }
    Ok(())
}

/// Removes kubelet's links to container logs; their folder can't be configured.
fn remove_log_links(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir("/var/log/containers") else {
        return Ok(());
    };
    for entry in entries {
        let link = entry?.path();
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(folder)) {
            fs::remove_file(&link)?;
        }
    }
    Ok(())
}
