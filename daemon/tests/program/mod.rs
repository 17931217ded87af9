//! Scaffold for tests of a command: `mod program;`, run the program in `tests/plans` with
//! [`ferrolb`], and check its exit code and [`stdout`].
#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with these arguments, and waits for its end.
pub(crate) fn ferrolb(arguments: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_remove("POD_NAMESPACE");
    command.output().expect("the program starts")
}

/// What it printed.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with one file.
pub(crate) fn folder_of(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), text).expect("written");
    folder
}
