//! Runs the engine on a thread of its own, with packet sockets.

use std::fmt;
use std::io;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Command, Identity, Settings};
use crate::status::{Event, Status};

/// What [`spawn`] needs.
pub struct Options {
    /// The identity of this process.
    pub identity: Identity,
    /// The first settings.
    pub settings: Settings,
    /// Whether an interface must not be used, by its name.
    pub excluded: Box<dyn Fn(&str) -> bool + Send>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("identity", &self.identity)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A running engine. It ends after [`Command::Leave`], or when all handles are dropped: then
/// without handing anything over.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::UnboundedSender<Request>,
    ended: watch::Receiver<bool>,
}

enum Request {
    Command(Command),
    Status(oneshot::Sender<Status>),
}

/// Starts the engine.
///
/// # Errors
/// When packet sockets are refused, most often without the capability NET_RAW.
pub fn spawn(options: Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)> {
    _ = options;
    Err(io::ErrorKind::Unsupported.into())
}

impl Handle {
    /// Sends a command. Does nothing if the engine has ended.
    pub fn send(&self, command: Command) {
        _ = self.requests.send(Request::Command(command));
    }

    /// A snapshot, or none if the engine has ended.
    pub async fn status(&self) -> Option<Status> {
        let (reply, status) = oneshot::channel();
        self.requests.send(Request::Status(reply)).ok()?;
        status.await.ok()
    }

    /// Returns when the engine has ended.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        _ = ended.wait_for(|ended| *ended).await;
    }
}
