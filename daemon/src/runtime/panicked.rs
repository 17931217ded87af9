//! Handles a panic of the control loop: announced routes stay, the process is not ready and
//! restarts itself.

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

/// Time between a panic and the restart.
const RESTART_DELAY: Duration = Duration::from_secs(10);
/// The same, if the previous restart did not help.
const LONG_RESTART_DELAY: Duration = Duration::from_mins(5);
/// A panic within this time after the start means that the previous restart did not help.
const EARLY_PANIC: Duration = Duration::from_mins(1);

/// The control loop panicked. The log names the panic and the objects.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs the control loop and catches a panic: the status, and with it `/readyz`, then reports it.
/// The BGP engine keeps its routes.
///
/// # Errors
///
/// The loop panicked.
pub async fn catch(
    control: ControlLoop,
    source: &mut Source,
    stop: oneshot::Receiver<bool>,
) -> Result<Option<StopMode>, Panicked> {
    let status = control.status.clone();
    // Nothing that the loop changed is used after a panic, except the status, which is replaced as
    // a whole.
    let caught = AssertUnwindSafe(control.run(source, stop)).catch_unwind();
    caught.await.map_err(|_| {
        status.send_modify(|status| Arc::make_mut(status).panicked = true);
        Panicked
    })
}

/// Announces the saved routes, after a panic before the first update. The announcer finds the
/// routers of unnumbered peers: keep it.
pub fn restore(node: &str, engine: &Handle, state: &StateDir) -> Option<Announcer> {
    match state.load() {
        Ok(Some(saved)) => {
            let now = Instant::now().into_std();
            let mut announcer = Announcer::new(node.to_owned(), engine.clone(), None);
            announcer.restore(now, saved, "the control loop panicked");
            return Some(announcer);
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(
                "can't read the state file, so no routes are announced until the \
             restart: {error}"
            );
        }
    }
    None
}

/// Delay between a panic and the restart, for a process of this age. Sessions stay up meanwhile,
/// but no change is announced. Repeated panics at the start must not cost peers without graceful
/// restart their session every few seconds.
pub(crate) fn restart_delay(age: Duration) -> Duration {
    if age < EARLY_PANIC {
        LONG_RESTART_DELAY
    } else {
        RESTART_DELAY
    }
}

/// Replaces this process by a new one with the same arguments. A supervisor such as the kubelet
/// would restart it with an increasing delay of up to minutes, but peers keep routes for only two.
///
/// Returns only on failure, with the reason.
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
    fn a_panic_soon_after_the_start_delays_the_next_restart() {
        assert_eq!(restart_delay(Duration::from_secs(1)), LONG_RESTART_DELAY);
        assert_eq!(restart_delay(EARLY_PANIC), RESTART_DELAY);
        assert_eq!(restart_delay(Duration::from_hours(100)), RESTART_DELAY);
    }

    /// The test runs itself in a separate process, which restarts itself once.
    #[test]
    fn restart_replaces_the_process_and_keeps_its_arguments() {
        if let Some(notes) = env::var_os(NOTES) {
            let before = fs::read_to_string(&notes).unwrap_or_default();
            let arguments: Vec<String> = env::args().collect();
            let update = format!("{} {}\n", id(), arguments.join(" "));
            fs::write(&notes, format!("{before}{update}")).expect("written");
            if before.is_empty() {
                panic!("{}", restart());
            }
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let notes = folder.path().join("notes");
        let name = "runtime::panicked::tests::restart_replaces_the_process_and_keeps_its_arguments";
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
