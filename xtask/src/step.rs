//! Runs commands and steps. The output shows each command line, the duration of each step, and the
//! command that repeats a failed step.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Root of the workspace, in which every command runs.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// A command in the root of the workspace.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The cargo that runs this program, which may not be in PATH.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&program, arguments)
}

/// Prints a command line and runs it with the output of this process.
///
/// # Errors
/// When the command can't be started or fails, with the command line.
pub(crate) fn show_and_run(command: &mut Command) -> Result<()> {
    let line = line(command);
    println!("    $ {line}");
    let status = command.status().with_context(|| format!("start: {line}"))?;
    ensure!(status.success(), "{status}: {line}");
    Ok(())
}

/// Runs a command silently and returns its stdout.
///
/// # Errors
/// When the command can't be started or fails, with its stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start: {line}"))?;
    if !output.status.success() {
        bail!(
            "{}: {line}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be started and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    output(command).is_ok()
}

/// Cargo's target folder.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let folder = metadata["target_directory"].as_str();
    Ok(PathBuf::from(folder.context("no target_directory")?))
}

/// Prints the name of a step, runs it, and prints and returns its duration.
///
/// # Errors
/// The error of the step, with its name and the command that repeats it.
pub(crate) fn run_step(
    name: &str,
    about: &str,
    step: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    println!("\n==> {name}: {about}");
    let start = Instant::now();
    let outcome = step();
    let took = start.elapsed();
    if let Err(error) = outcome {
        bail!(
            "step `{name}` failed after {}\n\n{error:#}\n\n\
             To repeat only this step: cargo xtask test {name}",
            seconds(took)
        );
    }
    println!("<== {name}: ok, {}", seconds(took));
    Ok(took)
}

/// A duration in seconds, or in minutes and seconds.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        whole @ 0..60 => format!("{whole}.{} s", duration.subsec_millis() / 100),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// A command line as typed in a shell.
fn line(command: &Command) -> String {
    let environment = command
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_string_lossy(), value?.to_string_lossy())))
        .map(|(key, value)| format!("{key}={}", quoted(&value)));
    let program = Path::new(command.get_program());
    // Without the path of the rustup toolchain.
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program)
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()));
    environment.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '\'', '$', '"', '*', '\\']) || word.is_empty() {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_printed_as_typed_in_a_shell() {
        let mut command = Command::new("/some/where/cargo");
        command
            .args(["build", "--release"])
            .env("RUSTFLAGS", "-C target-feature=+crt-static");
        assert_eq!(
            line(&command),
            "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release"
        );
    }

    #[test]
    fn durations_are_in_seconds_or_minutes() {
        assert_eq!(seconds(Duration::from_millis(1_290)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn the_error_of_a_step_has_the_command_that_repeats_it() {
        let error = run_step("nothing", "fails", || bail!("the reason")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the reason"), "{text}");
        assert!(text.ends_with("cargo xtask test nothing"), "{text}");
    }
}
