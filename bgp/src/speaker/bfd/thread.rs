//! The BGP thread's side of the BFD thread: starts it, sends commands, receives events, and
//! restarts it after a panic.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::thread;

use tokio::sync::mpsc;
use tracing::error;

use super::super::sockopt::raise_thread_priority;
use super::BfdDriver;
use super::outbox::{Merge, OUTBOX_MAX, Outbox};
use crate::fsm::{self, BfdEvent, BfdTarget};

/// A command of the BGP thread for a peer.
#[derive(Debug)]
pub(in crate::speaker) enum Command {
    Set(BfdTarget),
    Remove,
    AdminDown,
}

impl Merge for Command {
    /// A later command supersedes an earlier one.
    fn merge(self, later: Self) -> Self {
        later
    }
}

/// An event and the name of its peer.
pub(in crate::speaker) type PeerBfdEvent = (String, BfdEvent);

/// The channels to a running thread.
type Channels = (Outbox<Command>, mpsc::Receiver<PeerBfdEvent>);

/// The BFD thread. Starts with the first session and ends when this is dropped.
#[derive(Default)]
pub(in crate::speaker) struct BfdThread {
    channels: Option<Channels>,
    /// Peers that use BFD.
    peers: BTreeSet<String>,
    /// Peers whose session was lost with the thread and that have not been notified yet.
    orphaned_peers: VecDeque<String>,
    /// Counter of packets that matched no session, over all threads.
    without_session: Arc<AtomicU64>,
}

impl BfdThread {
    /// Counter of packets that matched no session.
    pub(in crate::speaker) fn packets_without_session(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.without_session)
    }

    /// Sends a command; starts the thread if necessary. Returns an input if that failed.
    pub(in crate::speaker) fn command(
        &mut self,
        peer: String,
        command: Command,
    ) -> Option<fsm::Input> {
        if self.channels.is_none() {
            // Without a thread there is no session to end.
            if !matches!(command, Command::Set(_)) {
                return None;
            }
            match spawn(self.packets_without_session()) {
                Ok(channels) => self.channels = Some(channels),
                Err(error) => {
                    let reason = format!("cannot start the BFD thread: {error}");
                    let event = BfdEvent::Failed { reason };
                    return Some(fsm::Input::Bfd { peer, event });
                }
            }
        }
        match &command {
            Command::Set(_) => drop(self.peers.insert(peer.clone())),
            Command::Remove => drop(self.peers.remove(&peer)),
            Command::AdminDown => {}
        }
        if let Some((commands, _)) = &mut self.channels {
            // If the thread has ended, the command is dropped and `poll_event` reports the end.
            commands.send(peer, command);
        }
        None
    }

    /// The next event of the thread. After its end, a failure for each of its peers.
    pub(in crate::speaker) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PeerBfdEvent> {
        if let Some((commands, events)) = &mut self.channels {
            // A running thread sends events every second, so this runs at least as often.
            commands.flush();
            match events.poll_recv(cx) {
                Poll::Ready(Some(event)) => return Poll::Ready(event),
                Poll::Ready(None) => {
                    error!(
                        "BFD thread terminated unexpectedly (please report this bug): restarting \
                         it and all sessions that use BFD"
                    );
                    self.channels = None;
                    self.orphaned_peers.extend(std::mem::take(&mut self.peers));
                }
                Poll::Pending => {}
            }
        }
        match self.orphaned_peers.pop_front() {
            Some(peer) => {
                let reason = "the BFD thread terminated unexpectedly (see the log)".to_owned();
                Poll::Ready((peer, BfdEvent::Failed { reason }))
            }
            None => Poll::Pending,
        }
    }
}

fn spawn(without_session: Arc<AtomicU64>) -> io::Result<Channels> {
    let (sender, commands) = mpsc::channel(OUTBOX_MAX);
    let (event_sender, events) = mpsc::channel(OUTBOX_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("ferrolb-bfd".to_owned())
        .spawn(move || {
            raise_thread_priority();
            runtime.block_on(BfdDriver::new(commands, event_sender, without_session).run());
        })?;
    Ok((Outbox::new(sender), events))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_thread_is_reported_to_its_peers_and_a_new_thread_starts() {
        let (sender, mut commands) = mpsc::channel(OUTBOX_MAX);
        let (event_sender, events) = mpsc::channel(OUTBOX_MAX);
        let mut bfd = BfdThread {
            channels: Some((Outbox::new(sender), events)),
            ..BfdThread::default()
        };
        let target = || BfdTarget {
            remote: "127.0.0.79".parse().unwrap(),
            local: None,
            interface: Some("eth77".to_owned()),
            hops: crate::bfd::Hops::Single,
            config: crate::bfd::SessionConfig::default(),
        };
        for peer in ["gone", "left", "right"] {
            let answer = bfd.command(peer.to_owned(), Command::Set(target()));
            assert!(answer.is_none());
        }
        assert!(bfd.command("gone".to_owned(), Command::Remove).is_none());
        assert!(commands.try_recv().is_ok());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(bfd.poll_event(&mut cx).is_pending());

        // As after a panic.
        drop((commands, event_sender));
        for expected in ["left", "right"] {
            let Poll::Ready((peer, BfdEvent::Failed { reason })) = bfd.poll_event(&mut cx) else {
                panic!("{expected} is not notified");
            };
            assert_eq!(peer, expected);
            assert!(reason.contains("thread terminated"), "{reason}");
        }
        assert!(bfd.poll_event(&mut cx).is_pending());

        // The next command of a peer starts a new thread, which answers.
        bfd.command("left".to_owned(), Command::Remove);
        assert!(bfd.channels.is_none(), "no session to end");
        bfd.command("right".to_owned(), Command::Set(target()));
        let (_, events) = bfd.channels.as_mut().unwrap();
        let (peer, answer) = events.blocking_recv().unwrap();
        assert_eq!(peer, "right");
        let BfdEvent::Failed { reason } = &answer else {
            panic!("{answer:?}");
        };
        assert!(reason.contains("eth77 does not exist"), "{reason}");
    }
}
