//! `ferrolb check` on folders whose files or subfolders can't be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: s1, namespace: default}, \
 spec: {type: LoadBalancer}}\n";

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("written");
}

#[test]
fn check_skips_pipes_and_links_to_a_parent_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "s1.yaml", SERVICE);
    for name in ["a", "b"] {
        let sub = folder.path().join(name);
        fs::create_dir(&sub).expect("created");
        symlink(folder.path(), sub.join("up")).expect("linked");
        symlink("/dev/zero", sub.join("zero.yaml")).expect("linked");
    }
    let pipe = folder.path().join("pipe.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let check = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .args(["check", "-f"])
        .arg(folder.path())
        .output()
        .expect("ferrolb runs");
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn an_unreadable_subfolder_hides_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).expect("created");
    write(folder.path(), "bad.yaml", "spec: [");
    fs::set_permissions(&sub, fs::Permissions::from_mode(0o000)).expect("closed");
    // Permissions don't stop root: another user has to run it, from a place that user can reach.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    let binary = folder.path().join("ferrolb");
    fs::copy(env!("CARGO_BIN_EXE_ferrolb"), &binary).expect("copied");
    let mut check = Command::new(&binary);
    if fs::read_dir(&sub).is_ok() {
        check.uid(65534);
    }
    let check = check.args(["check", "-f"]).arg(folder.path()).output();
    let check = check.expect("ferrolb runs");
    let text = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    assert!(!check.status.success(), "{text}");
    assert!(
        text.contains("sub:1: error: can't be read: Permission denied"),
        "{text}"
    );
    assert!(text.contains("bad.yaml:1"), "{text}");
}
