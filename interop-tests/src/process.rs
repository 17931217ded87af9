//! Long-running programs with a log file ([`Process`]) and one-shot commands ([`run`]).

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::eventually::eventually;
use crate::scenario::{Scratch, tail};

/// A long-running program in its own session, with stdin closed and stdout and stderr in `NAME.log`
/// of the scratch folder. Dropping it kills and reaps the program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` from [`Namespace::command`](crate::netns::Namespace::command) or
    /// [`Command::new`]. A second start with the same name appends to the same log.
    ///
    /// A missing program ends at once with status 127, which [`Process::ensure_running`] reports.
    ///
    /// # Errors
    /// When the log can't be opened or the process can't be started.
    pub fn start(scratch: &Scratch, name: &str, command: &Command) -> Result<Self> {
        let log = scratch.file(&format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        // In its own session, so that signals of the terminal do not reach it. setsid and nsenter
        // exec the program: the pid of the child is the pid of the program.
        let mut own_session = Command::new("setsid");
        own_session
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => own_session.env(key, value),
                None => own_session.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            own_session.current_dir(folder);
        }
        let child = own_session
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Name of the process and its log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of the log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything that the program has logged so far.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn log_text(&self) -> Result<String> {
        let octets = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }

    /// Checks that some line of the log contains all of these words.
    ///
    /// # Errors
    /// When no line does: the last lines of the log.
    pub fn check_log(&self, words: &[&str]) -> Result<()> {
        let log = self.log_text()?;
        let found = log
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        ensure!(found, "no line of {} has {words:?}: {last:#?}", self.name);
        Ok(())
    }

    /// Waits until some line of the log contains all of these words.
    ///
    /// # Errors
    /// After `timeout`, with the last lines of the log.
    pub fn await_log(&self, words: &[&str], timeout: Duration) -> Result<()> {
        let what = format!("{words:?} in the log of {}", self.name);
        eventually(what, timeout, || self.check_log(words))
    }

    /// Checks that the program runs.
    ///
    /// # Errors
    /// When the program has ended: its status and the end of its log.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, tail(&self.log)),
        }
    }

    /// Sends SIGKILL and reaps the process.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits until the program has ended.
    ///
    /// # Errors
    /// When the program still runs after `timeout`.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait_exit(timeout)
    }

    /// Sends SIGSTOP: the program is stalled, its sockets stay open.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn suspend(&mut self) -> Result<()> {
        self.signal("STOP")
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn resume(&mut self) -> Result<()> {
        self.signal("CONT")
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// When the program still runs after `timeout`.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                start.elapsed() < timeout,
                "{} still runs after {:.1} s: {}",
                self.name,
                timeout.as_secs_f64(),
                tail(&self.log)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        self.ensure_running()?;
        signal_pid(signal, self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if the process has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal ("TERM", "KILL", "STOP", "CONT", "HUP") to one process.
///
/// # Errors
/// When there is no such process.
pub fn signal_pid(signal: &str, pid: u32) -> Result<()> {
    // The shell's builtin: the program `kill` is in a package that a minimal Debian lacks.
    run(Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", signal, &pid.to_string()]))
        .map(drop)
}

/// Path of the ferrolb under test, from `FERROLB_BIN`. `cargo xtask test lab` builds it and sets
/// the variable.
///
/// # Errors
/// When the variable isn't set or names no file.
pub fn ferrolb() -> Result<PathBuf> {
    let path = std::env::var_os("FERROLB_BIN")
        .map(PathBuf::from)
        .context("FERROLB_BIN is not set; `cargo xtask test lab` builds the binary and sets it")?;
    ensure!(path.is_file(), "FERROLB_BIN: no file {}", path.display());
    Ok(path)
}

/// Runs a command to its end and returns its stdout.
///
/// # Errors
/// When the command can't be started or fails: the command line, its status, stderr and stdout.
pub fn run(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start: {line}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let how = match output.status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => output.status.to_string(),
        };
        bail!(
            "{line}: {how}: {}{stdout}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// The command line, for messages.
fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_suspended_resumed_and_terminated() {
        let scratch = Scratch::new("process").unwrap();
        let mut process = Process::start(
            &scratch,
            "shell",
            Command::new("sh").args(["-c", "echo up; exec sleep 60"]),
        )
        .unwrap();
        eventually("its first line", Duration::from_secs(5), || {
            let text = process.log_text()?;
            ensure!(text == "up\n", "{text:?}");
            Ok(())
        })
        .unwrap();
        let state = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next()
        };
        process.suspend().unwrap();
        eventually("stopped", Duration::from_secs(5), || {
            state(process.pid())
                .filter(|&state| state == 'T')
                .ok_or("not T")
        })
        .unwrap();
        process.resume().unwrap();
        let status = process.terminate(Duration::from_secs(5)).unwrap();
        assert_eq!(status.signal(), Some(15));
        assert!(
            process
                .ensure_running()
                .unwrap_err()
                .to_string()
                .contains("up")
        );
    }

    #[test]
    fn a_dropped_process_is_killed_and_reaped() {
        let scratch = Scratch::new("drop").unwrap();
        let process = Process::start(&scratch, "sleep", Command::new("sleep").arg("60")).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }

    #[test]
    fn a_missing_program_and_a_failing_command_are_reported() {
        let scratch = Scratch::new("missing").unwrap();
        let mut process =
            Process::start(&scratch, "missing", &Command::new("/no/such/program")).unwrap();
        assert_eq!(
            process.wait_exit(Duration::from_secs(5)).unwrap().code(),
            Some(127)
        );
        assert!(
            process
                .ensure_running()
                .unwrap_err()
                .to_string()
                .contains("/no/such/program")
        );

        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("exit status: 3: why"), "{error}");
    }
}
