//! Daemons under test: started with a log file, signalled by pid, never left behind; and the
//! [`Scratch`] folder that holds a test's files and shows the logs when it fails.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How many of a log's last lines a failed test prints.
const TAIL_LINES: usize = 25;

/// Runs one lab test: gives it a [`Scratch`] folder that outlives everything the test starts.
///
/// # Panics
/// When the test gives an error, after printing the tail of each log and where the files lie.
pub fn scenario(name: &str, test: impl FnOnce(&Scratch) -> Result<()>) {
    let outcome = require_root()
        .and_then(|()| crate::netns::sweep())
        .and_then(|()| Scratch::new(name))
        .map(|scratch| {
            // The scratch folder's drop prints the logs while this thread panics.
            if let Err(error) = test(&scratch) {
                panic!("{name}: {error:#}");
            }
        });
    if let Err(error) = outcome {
        panic!("{name}: cannot set up: {error:#}");
    }
}

/// A lab test without root fails, it is never skipped.
fn require_root() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let root = status
        .lines()
        .any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]));
    ensure!(
        root,
        "the lab makes network namespaces and needs root: run it with sudo"
    );
    Ok(())
}

/// A test's own folder: configuration files, sockets, and one `NAME.log` per daemon. Removed at the
/// end of a test that passed; kept, and its logs' tails printed, when it failed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// It lies in another one, whose business it is to show its logs and to remove it.
    within: bool,
}

impl Scratch {
    /// Makes `/tmp/ferrolb-lab-UID/PID-N-NAME` (short, since control sockets live in it and a socket's
    /// path has at most 107 octets).
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = scratches()?.join(format!("{}-{unique}-{name}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self {
            path,
            within: false,
        })
    }

    /// Makes a folder of this name in this one, for a part of the test that runs beside others.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn within(&self, name: &str) -> Result<Self> {
        let path = self.file(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path, within: true })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of this name lies or is to be written.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Prints the last lines of every log to stderr.
    fn print_logs(&self) {
        for log in logs(&self.path) {
            eprintln!("---- {} (last {TAIL_LINES} lines)", log.display());
            eprintln!("{}", tail(&log));
        }
        eprintln!("---- all files of this test: {}", self.path.display());
    }
}

/// Where this user's scratch folders lie: what root left there must not be in the way of somebody else's unit tests.
///
/// # Errors
/// When the kernel does not tell who we are.
pub(crate) fn scratches() -> Result<PathBuf> {
    let user = fs::metadata("/proc/self").context("/proc/self")?.uid();
    Ok(PathBuf::from(format!("/tmp/ferrolb-lab-{user}")))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.within {
            return;
        }
        if std::thread::panicking() {
            self.print_logs();
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The logs in a folder and in those within it, in order.
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

/// The last lines of a file; what went wrong, if it can't be read.
fn tail(path: &Path) -> String {
    match fs::read(path) {
        Ok(octets) => {
            let text = String::from_utf8_lossy(&octets);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
        }
        Err(error) => format!("(cannot read: {error})"),
    }
}

/// A long-running program in a session of its own, stdin closed, stdout and stderr in `NAME.log` of
/// the scratch folder. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which comes from [`Namespace::command`](crate::netns::Namespace::command)
    /// or [`Command::new`]. A second start under the same name appends to the same log.
    ///
    /// A program that isn't there ends at once with status 127; [`Process::ensure_running`] tells.
    ///
    /// # Errors
    /// When the log can't be opened or the process can't be made.
    pub fn start(scratch: &Scratch, name: &str, command: &Command) -> Result<Self> {
        let log = scratch.file(&format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        // In a session of its own, so that no terminal's signal reaches it. setsid and nsenter
        // replace themselves by the program: the child's pid is the program's.
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

    /// The name it was started under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything it has written so far.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn log_text(&self) -> Result<String> {
        let octets = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }

    /// # Errors
    /// When the program has ended: its status and the end of its log.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, tail(&self.log)),
        }
    }

    /// SIGKILL, and reap.
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

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it has not ended after `timeout`.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait_exit(timeout)
    }

    /// SIGSTOP: the process stays, its sockets stay open, nothing runs.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn suspend(&mut self) -> Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn resume(&mut self) -> Result<()> {
        self.signal("CONT")
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
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
        // A process that has ended and was reaped gives an error here, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name ("TERM", "KILL", "STOP", "CONT", "HUP") to one process.
///
/// # Errors
/// When there is no such process.
pub fn signal_pid(signal: &str, pid: u32) -> Result<()> {
    // The shell's own: Debian's `kill` program is in a package that a small machine may lack.
    run(Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", signal, &pid.to_string()]))
        .map(drop)
}

/// The ferrolb under test, which `cargo xtask test` builds and names in `FERROLB_BIN`.
///
/// # Errors
/// When the variable isn't set or names no file.
pub fn ferrolb() -> Result<PathBuf> {
    let path = std::env::var_os("FERROLB_BIN")
        .map(PathBuf::from)
        .context("FERROLB_BIN names no binary; `cargo xtask test lab` builds one and sets it")?;
    ensure!(path.is_file(), "FERROLB_BIN: no file {}", path.display());
    Ok(path)
}

/// Runs a short command to its end and gives its stdout.
///
/// # Errors
/// When it can't be started or fails: the command line, its status, stdout and stderr.
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

/// The command as one would type it, for messages.
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
    fn a_daemon_is_suspended_resumed_and_terminated() {
        let scratch = Scratch::new("process").unwrap();
        let mut daemon = Process::start(
            &scratch,
            "shell",
            Command::new("sh").args(["-c", "echo up; exec sleep 60"]),
        )
        .unwrap();
        crate::eventually::eventually("its first line", Duration::from_secs(5), || {
            let text = daemon.log_text()?;
            ensure!(text == "up\n", "{text:?}");
            Ok(())
        })
        .unwrap();
        let state = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next()
        };
        daemon.suspend().unwrap();
        crate::eventually::eventually("stopped", Duration::from_secs(5), || {
            state(daemon.pid())
                .filter(|&state| state == 'T')
                .ok_or("not T")
        })
        .unwrap();
        daemon.resume().unwrap();
        let status = daemon.terminate(Duration::from_secs(5)).unwrap();
        assert_eq!(status.signal(), Some(15));
        assert!(
            daemon
                .ensure_running()
                .unwrap_err()
                .to_string()
                .contains("up")
        );
    }

    #[test]
    fn a_dropped_daemon_is_gone() {
        let scratch = Scratch::new("drop").unwrap();
        let daemon = Process::start(&scratch, "sleep", Command::new("sleep").arg("60")).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", daemon.pid()));
        assert!(proc.exists());
        drop(daemon);
        assert!(!proc.exists());
    }

    #[test]
    fn a_missing_program_and_a_failing_command_say_so() {
        let scratch = Scratch::new("missing").unwrap();
        let mut daemon =
            Process::start(&scratch, "nobody", &Command::new("/no/such/program")).unwrap();
        assert_eq!(
            daemon.wait_exit(Duration::from_secs(5)).unwrap().code(),
            Some(127)
        );
        assert!(
            daemon
                .ensure_running()
                .unwrap_err()
                .to_string()
                .contains("/no/such/program")
        );

        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("exit status: 3: why"), "{error}");
    }
}
