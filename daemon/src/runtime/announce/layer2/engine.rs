//! The layer 2 engine as the rest of the process uses it: it runs only while there is an
//! L2Advertisement, and is compiled out without the feature `layer2`.

use std::io;
use std::sync::{Arc, Once};
use std::time::Duration;

use ferrolb_layer2::config::Command;
use ferrolb_layer2::status::{Event, Status};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::cpu_weight;

#[cfg(not(feature = "layer2"))]
use self::compiled_out::spawn;
#[cfg(not(feature = "layer2"))]
pub(crate) use self::compiled_out::{Handle, Options};
#[cfg(feature = "layer2")]
use ferrolb_layer2::driver::spawn;
#[cfg(feature = "layer2")]
pub(crate) use ferrolb_layer2::driver::{Handle, Options};

/// Limit for handing over all addresses. The engine itself takes at most 2 s.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Starts the engine. The first one that starts checks the CPU weight of the process.
pub(crate) fn start(options: Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)> {
    static WEIGHT_CHECKED: Once = Once::new();
    let started = spawn(options)?;
    WEIGHT_CHECKED.call_once(cpu_weight::warn_if_low);
    Ok(started)
}

/// Whether the layer 2 engine runs.
#[derive(Clone, Debug, Default)]
pub(crate) enum EngineState {
    /// There is no L2Advertisement, or the objects were not listed yet.
    #[default]
    Idle,
    /// It can't start, for this reason and with this remedy. It is retried.
    Refused(Arc<str>),
    /// It runs.
    Running(Handle),
}

impl EngineState {
    /// Whether it runs.
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }
}

/// The current layer 2 engine, for threads other than the control loop.
#[derive(Clone, Debug)]
pub(crate) struct Layer2Engine(watch::Receiver<EngineState>);

impl Layer2Engine {
    /// An engine that does not run yet, and what sets its state.
    pub(crate) fn new() -> (watch::Sender<EngineState>, Self) {
        let (state, current) = watch::channel(EngineState::Idle);
        (state, Self(current))
    }

    /// Whether it runs now. Keep a handle only for one request: the next may meet another engine.
    pub(crate) fn state(&self) -> EngineState {
        self.0.borrow().clone()
    }

    /// A snapshot of the engine, if it runs.
    pub(crate) async fn status(&self) -> Option<Status> {
        match self.state() {
            EngineState::Running(engine) => engine.status().await,
            EngineState::Idle | EngineState::Refused(_) => None,
        }
    }

    /// Ends the engine. `restarting`: this process comes back soon, so peers wait for it;
    /// otherwise the engine hands its addresses over and goes on answering until they are taken.
    /// Waits for that for a limited time.
    pub(crate) async fn leave(&self, restarting: bool) {
        if let EngineState::Running(engine) = self.state() {
            engine.send(Command::Leave { restarting });
            if timeout(LEAVE_TIMEOUT, engine.ended()).await.is_err() {
                tracing::warn!("layer 2 did not hand over its addresses in time");
            }
        }
    }
}

/// What replaces the driver in a program without layer 2.
#[cfg(not(feature = "layer2"))]
mod compiled_out {
    use std::convert::Infallible;
    use std::{fmt, io};

    use ferrolb_layer2::config::{Command, Identity, Settings};
    use ferrolb_layer2::status::{Event, Status};
    use tokio::sync::mpsc;

    /// There is no engine.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Handle(Infallible);

    impl Handle {
        pub(crate) fn send(&self, _: Command) {
            match self.0 {}
        }

        #[allow(clippy::unused_async, reason = "as the driver's")]
        pub(crate) async fn status(&self) -> Option<Status> {
            match self.0 {}
        }

        #[allow(clippy::unused_async, reason = "as the driver's")]
        pub(crate) async fn ended(&self) {
            match self.0 {}
        }
    }

    #[allow(dead_code, reason = "as the driver's")]
    pub(crate) struct Options {
        pub(crate) identity: Identity,
        pub(crate) settings: Settings,
        pub(crate) excluded: Box<dyn Fn(&str) -> bool + Send>,
    }

    impl fmt::Debug for Options {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Options")
        }
    }

    pub(crate) fn spawn(_: Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
