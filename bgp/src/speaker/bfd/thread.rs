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
use crate::fsm::{self, BfdNews, BfdTarget};

/// What the driver of BGP asks for, for a peer by name.
#[derive(Debug)]
pub(in crate::speaker) enum Command {
    Set(String, BfdTarget),
    Remove(String),
    AdminDown(String),
}

/// News for a peer by name.
pub(in crate::speaker) type News = (String, BfdNews);

/// The two ends of a thread that runs.
type Channels = (
    mpsc::UnboundedSender<Command>,
    mpsc::UnboundedReceiver<News>,
);

/// The thread of BFD, once there is a session. It ends with this.
#[derive(Default)]
pub(in crate::speaker) struct BfdThread {
    channels: Option<Channels>,
    /// Who counts on it.
    watched: BTreeSet<String>,
    /// Who did when it ended by itself, and doesn't know yet.
    bereft: VecDeque<String>,
    /// Packets that belong to no session, over all threads there were.
    strangers: Arc<AtomicU64>,
}

impl BfdThread {
    /// Counts packets that belong to no session.
    pub(in crate::speaker) fn strangers(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.strangers)
    }

    /// Starts the thread if it isn't there; an answer if that can't be done.
    pub(in crate::speaker) fn command(&mut self, command: Command) -> Option<fsm::Input> {
        if self.channels.is_none() {
            // Without a thread there is no session to be ended.
            let Command::Set(peer, _) = &command else {
                return None;
            };
            match spawn(self.strangers()) {
                Ok(channels) => self.channels = Some(channels),
                Err(error) => {
                    let reason = format!("can't start its thread: {error}");
                    let news = BfdNews::Failed { reason };
                    let peer = peer.clone();
                    return Some(fsm::Input::Bfd { peer, news });
                }
            }
        }
        match &command {
            Command::Set(peer, _) => drop(self.watched.insert(peer.clone())),
            Command::Remove(peer) => drop(self.watched.remove(peer)),
            Command::AdminDown(_) => {}
        }
        if let Some((commands, _)) = &self.channels {
            // A thread that is gone can't be told; its news says so.
            drop(commands.send(command));
        }
        None
    }

    /// What it has to tell, and if it ended, that.
    pub(in crate::speaker) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        if let Some((_, news)) = &mut self.channels {
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
                Poll::Ready((peer, BfdNews::Failed { reason }))
            }
            None => Poll::Pending,
        }
    }
}

fn spawn(strangers: Arc<AtomicU64>) -> io::Result<Channels> {
    let (sender, commands) = mpsc::unbounded_channel();
    let (news_sender, news) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("ferrolb-bfd".to_owned())
        .spawn(move || {
            hasten_this_thread();
            runtime.block_on(Driver::new(commands, news_sender, strangers).run());
        })?;
    Ok((sender, news))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_is_told_to_whoever_counts_on_it_and_started_anew() {
        let (sender, mut commands) = mpsc::unbounded_channel();
        let (news_sender, news) = mpsc::unbounded_channel();
        let mut bfd = BfdThread {
            channels: Some((sender, news)),
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
            let answer = bfd.command(Command::Set(peer.to_owned(), target()));
            assert!(answer.is_none());
        }
        assert!(bfd.command(Command::Remove("gone".to_owned())).is_none());
        assert!(commands.try_recv().is_ok(), "it was told");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(bfd.poll_news(&mut cx).is_pending());

        // What a panic does.
        drop((commands, news_sender));
        for expected in ["left", "right"] {
            let Poll::Ready((peer, BfdNews::Failed { reason })) = bfd.poll_news(&mut cx) else {
                panic!("{expected} isn't told");
            };
            assert_eq!(peer, expected);
            assert!(reason.contains("thread ended"), "{reason}");
        }
        assert!(bfd.poll_news(&mut cx).is_pending());

        // At its next attempt a peer asks again: that takes a new thread, which answers.
        bfd.command(Command::Remove("left".to_owned()));
        assert!(bfd.channels.is_none(), "nothing to be ended");
        bfd.command(Command::Set("right".to_owned(), target()));
        let (_, news) = bfd.channels.as_mut().unwrap();
        let (peer, answer) = news.blocking_recv().unwrap();
        assert_eq!(peer, "right");
        assert!(
            matches!(&answer, BfdNews::Failed { reason } if reason.contains("eth77 does not exist")),
            "{answer:?}"
        );
    }
}
