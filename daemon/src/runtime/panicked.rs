//! A panic of the control loop, which is a bug of ferrolb: what is announced stays announced, the process is not ready,
//! and restarts itself.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::speaker::Handle;
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::runtime::announce::announcer::Announcer;
use crate::runtime::announce::drain::StopMode;
use crate::runtime::announce::state_file::StateDir;
use crate::runtime::control_loop::ControlLoop;
use crate::runtime::source::Source;

/// How long the process lives on after a panic before it restarts.
const PAUSE: Duration = Duration::from_secs(10);
/// The same, where a restart has not helped.
const LONG_PAUSE: Duration = Duration::from_mins(5);
/// A panic this early says that the last restart has not helped.
const EARLY: Duration = Duration::from_mins(1);

/// The loop has panicked. The log has the panic and the object.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs the loop, and catches its panic: then the report says so, and with it `/readyz`. The BGP engine keeps what it has.
///
/// # Errors
/// The loop has panicked.
pub async fn catch(
    agent: ControlLoop,
    source: &mut Source,
    stop: oneshot::Receiver<bool>,
) -> Result<Option<StopMode>, Panicked> {
    let report = agent.report.clone();
    // Nothing that the loop changed is looked at after a panic, but for the report, which is replaced as a whole.
    let caught = AssertUnwindSafe(agent.run(source, stop)).catch_unwind();
    caught.await.map_err(|_| {
        report.send_modify(|report| Arc::make_mut(report).panicked = true);
        Panicked
    })
}

/// Announces what was announced before the restart, for a loop that panicked before it handed over anything.
pub fn restore(node: &str, engine: &Handle, state: &StateDir) {
    match state.load() {
        Ok(Some(saved)) => {
            let now = Instant::now().into_std();
            Announcer::new(node.to_owned(), engine.clone(), None).restore(now, saved);
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!("what was announced before the restart can't be read: {error}");
        }
    }
}

/// How long a process of this age lives on after a panic: its sessions are up meanwhile, but follow no change. A bug that
/// comes back at each start shall not cost peers without graceful restart their session every few seconds.
pub(crate) fn pause(age: Duration) -> Duration {
    if age < EARLY { LONG_PAUSE } else { PAUSE }
}

/// Starts this program with the same arguments in the place of this process, at once: a supervisor (the kubelet) that is
/// left to do so waits longer and longer, up to minutes, and peers keep routes for two.
///
/// Returns only if that fails, with the reason.
pub(crate) fn restart() -> io::Error {
    let mut arguments = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).exec()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::id;

    use super::*;

    const NOTES: &str = "FERROLB_TEST_NOTES";

    #[test]
    fn a_panic_soon_after_the_start_makes_the_next_restart_wait() {
        assert_eq!(pause(Duration::from_secs(1)), LONG_PAUSE);
        assert_eq!(pause(EARLY), PAUSE);
        assert_eq!(pause(Duration::from_hours(100)), PAUSE);
    }

    /// The test runs itself in a process of its own, which restarts itself once.
    #[test]
    fn a_process_restarts_in_its_own_place_with_its_arguments() {
        if let Some(notes) = env::var_os(NOTES) {
            let before = fs::read_to_string(&notes).unwrap_or_default();
            let arguments: Vec<String> = env::args().collect();
            let note = format!("{} {}\n", id(), arguments.join(" "));
            fs::write(&notes, format!("{before}{note}")).expect("written");
            if before.is_empty() {
                panic!("{}", restart());
            }
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let notes = folder.path().join("notes");
        let name =
            "runtime::panicked::tests::a_process_restarts_in_its_own_place_with_its_arguments";
        let status = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", name])
            .env(NOTES, &notes)
            .output()
            .expect("a process")
            .status;
        assert!(status.success());
        let notes = fs::read_to_string(notes).expect("notes");
        let [first, second] = notes.lines().collect::<Vec<_>>()[..] else {
            panic!("not started twice: {notes}");
        };
        assert_eq!(first, second);
        assert!(first.contains(name), "{first}");
    }
}
