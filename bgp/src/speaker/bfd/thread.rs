//! The thread as the driver of BGP sees it: what it is asked, what it tells, and that it may end.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::thread;

use tokio::sync::mpsc;
use tracing::error;

use super::super::sockopt::hasten_this_thread;
use super::Driver;
use super::outbox::{Merge, OUTBOX_MAX, Outbox};
use crate::fsm::{self, BfdEvent, BfdTarget};

/// What the driver of BGP asks for, for a peer.
#[derive(Debug)]
pub(in crate::speaker) enum Command {
    Set(BfdTarget),
    Remove,
    AdminDown,
}

impl Merge for Command {
    /// Each says what is wanted from now on, whatever was before.
    fn merge(self, later: Self) -> Self {
        later
    }
}

/// News for a peer by name.
pub(in crate::speaker) type News = (String, BfdEvent);

/// The two ends of a thread that runs.
type Channels = (Outbox<Command>, mpsc::Receiver<News>);

/// The thread of BFD, once there is a session. It ends with this.
#[derive(Default)]
pub(in crate::speaker) struct BfdThread {
    channels: Option<Channels>,
    /// Who counts on it.
    watched: BTreeSet<String>,
    /// Who did when it ended by itself, and doesn't know yet.
    bereft: VecDeque<String>,
    /// Packets that belong to no session, over all threads there were.
    without_session: Arc<AtomicU64>,
}

impl BfdThread {
    /// Counts packets that belong to no session.
    pub(in crate::speaker) fn packets_without_session(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.without_session)
    }

    /// Starts the thread if it isn't there; an answer if that can't be done.
    pub(in crate::speaker) fn command(
        &mut self,
        peer: String,
        command: Command,
    ) -> Option<fsm::Input> {
        if self.channels.is_none() {
            // Without a thread there is no session to be ended.
            if !matches!(command, Command::Set(_)) {
                return None;
            }
            match spawn(self.packets_without_session()) {
                Ok(channels) => self.channels = Some(channels),
                Err(error) => {
                    let reason = format!("can't start its thread: {error}");
                    let event = BfdEvent::Failed { reason };
                    return Some(fsm::Input::Bfd { peer, event });
                }
            }
        }
        match &command {
            Command::Set(_) => drop(self.watched.insert(peer.clone())),
            Command::Remove => drop(self.watched.remove(&peer)),
            Command::AdminDown => {}
        }
        if let Some((commands, _)) = &mut self.channels {
            // A thread that is gone takes none; its news says so.
            commands.send(peer, command);
        }
        None
    }

    /// What it has to tell, and if it ended, that.
    pub(in crate::speaker) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        if let Some((commands, news)) = &mut self.channels {
            // A thread that takes commands again has news every second.
            commands.flush();
            match news.poll_recv(cx) {
                Poll::Ready(Some(news)) => return Poll::Ready(news),
                Poll::Ready(None) => {
                    error!(
                        "the thread of BFD ended, which is a bug of ours: peers with BFD start \
                         anew, with a new thread"
                    );
                    self.channels = None;
                    self.bereft.extend(std::mem::take(&mut self.watched));
                }
                Poll::Pending => {}
            }
        }
        match self.bereft.pop_front() {
            Some(peer) => {
                let reason = "its thread ended, which is a bug of ours: see the log".to_owned();
                Poll::Ready((peer, BfdEvent::Failed { reason }))
            }
            None => Poll::Pending,
        }
    }
}

fn spawn(without_session: Arc<AtomicU64>) -> io::Result<Channels> {
    let (sender, commands) = mpsc::channel(OUTBOX_MAX);
    let (news_sender, news) = mpsc::channel(OUTBOX_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("ferrolb-bfd".to_owned())
        .spawn(move || {
            hasten_this_thread();
            runtime.block_on(Driver::new(commands, news_sender, without_session).run());
        })?;
    Ok((Outbox::new(sender), news))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_is_told_to_whoever_counts_on_it_and_started_anew() {
        let (sender, mut commands) = mpsc::channel(OUTBOX_MAX);
        let (news_sender, news) = mpsc::channel(OUTBOX_MAX);
        let mut bfd = BfdThread {
            channels: Some((Outbox::new(sender), news)),
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
        assert!(commands.try_recv().is_ok(), "it was told");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(bfd.poll_news(&mut cx).is_pending());

        // What a panic does.
        drop((commands, news_sender));
        for expected in ["left", "right"] {
            let Poll::Ready((peer, BfdEvent::Failed { reason })) = bfd.poll_news(&mut cx) else {
                panic!("{expected} isn't told");
            };
            assert_eq!(peer, expected);
            assert!(reason.contains("thread ended"), "{reason}");
        }
        assert!(bfd.poll_news(&mut cx).is_pending());

        // At its next attempt a peer asks again: that takes a new thread, which answers.
        bfd.command("left".to_owned(), Command::Remove);
        assert!(bfd.channels.is_none(), "nothing to be ended");
        bfd.command("right".to_owned(), Command::Set(target()));
        let (_, news) = bfd.channels.as_mut().unwrap();
        let (peer, answer) = news.blocking_recv().unwrap();
        assert_eq!(peer, "right");
        assert!(
            matches!(&answer, BfdEvent::Failed { reason } if reason.contains("eth77 does not exist")),
            "{answer:?}"
        );
    }
}
