//! Runs the engine on a thread of its own, with packet sockets.
//!
//! `routers` finds the routers of unnumbered BGP sessions, on a thread of its own.
//!
//! All other modules are private: `runner` is the loop, `netlink` with `links` follows the kernel's
//! interfaces, `segments` has the sockets of each interface, `groups` joins IPv6 groups.

mod attributes;
mod clock;
mod groups;
mod links;
mod netlink;
mod packet_socket;
pub mod routers;
mod runner;
mod segment;
mod segments;
mod traffic;
mod warnings;

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

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
    requests: Arc<Requests>,
    ended: watch::Receiver<bool>,
}

/// The requests of all handles. The order of the fields matters: the channel closes before the
/// stream, so that the thread wakes and finds the channel closed.
#[derive(Debug)]
struct Requests {
    channel: mpsc::UnboundedSender<Request>,
    wake: UnixStream,
}

#[derive(Debug)]
enum Request {
    Command(Command),
    Status(oneshot::Sender<Status>),
}

/// Starts the engine.
///
/// # Errors
/// When packet sockets are refused, most often without the capability NET_RAW.
pub fn spawn(options: Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)> {
    packet_socket::PacketSocket::check().map_err(refused)?;
    let (channel, requests) = mpsc::unbounded_channel();
    let (events, receiver) = mpsc::unbounded_channel();
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let runner = runner::Runner::new(options, requests, events, woken)?;
    let (ended, is_ended) = watch::channel(false);
    let ended = Ended(ended);
    thread::Builder::new()
        .name("layer2".into())
        .spawn(move || {
            let _ended = ended;
            runner.run();
        })?;
    let handle = Handle {
        requests: Arc::new(Requests { channel, wake }),
        ended: is_ended,
    };
    Ok((handle, receiver))
}

/// Names the remedy.
fn refused(error: io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the process needs the capability NET_RAW: add it to \
             securityContext.capabilities.add of the container"
        }
        _ => "the kernel must support packet sockets (module af_packet)",
    };
    io::Error::new(
        error.kind(),
        format!("packet sockets are refused ({error}): {remedy}"),
    )
}

/// Reports the end of the thread, also after a panic.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                "layer 2 panicked, this node announces nothing until it starts again: \
                 report the lines above"
            );
        }
        _ = self.0.send_replace(true);
    }
}

impl Handle {
    /// Sends a command. Does nothing if the engine has ended.
    pub fn send(&self, command: Command) {
        self.requests.send(Request::Command(command));
    }

    /// A snapshot, or none if the engine has ended.
    pub async fn status(&self) -> Option<Status> {
        let (reply, status) = oneshot::channel();
        self.requests.send(Request::Status(reply));
        status.await.ok()
    }

    /// Returns when the engine has ended.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Requests {
    fn send(&self, request: Request) {
        _ = self.channel.send(request);
        // If the stream is full, the thread is awake.
        _ = (&self.wake).write(&[0]);
    }
}
