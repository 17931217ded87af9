//! Publishes the sessions of this node as BGPSession objects: transitions at once, counters rarely.
//!
//! Nothing waits for it, and it changes nothing about the sessions. It goes on after a panic of the
//! control loop.

mod ledger;
mod status;

use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::speaker::{Events, Handle};
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use self::ledger::Ledger;
use self::status::time;
use crate::core::api::bgp_session::{BgpSessionStatus, UnknownReason};
use crate::core::decide::digest::RouteDigest;
use crate::runtime::source::bgp_sessions::{object, object_name};
use crate::runtime::source::status_objects::{Objects, StatusObjects, StatusObjectsSender};
use crate::runtime::status::{DaemonStatus, OwnNode};

/// Without an event, the engine is asked this often: for counters, and for removed peers.
const POLL: Duration = Duration::from_secs(1);
/// Events within this time are handled together: a session that is being opened has several.
const EVENTS: Duration = Duration::from_millis(20);
/// All objects are written again after this time and up to twice of it: someone may have deleted
/// them.
const REFRESH: Duration = Duration::from_mins(10);
/// They are also written again when the Node becomes Ready, and after this time once more: the
/// leader, which wrote that they are unknown, may have seen it later.
const REFRESH_AFTER_READY: Duration = Duration::from_secs(30);
/// While the Node is not Ready, they are written again after this time and up to twice of it: each
/// new leader writes once that they are unknown.
const REFRESH_NOT_READY: Duration = Duration::from_mins(1);
/// The first time after this time and up to twice of it.
const REFRESH_AFTER_NOT_READY: Duration = Duration::from_secs(30);
/// Limit for the last write of a process.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What the publisher works with.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// This node.
    pub(crate) node: String,
    /// The BGP engine, with its events.
    pub(crate) engine: Handle,
    pub(crate) events: Events,
    /// What the control loop publishes.
    pub(crate) status: watch::Receiver<Arc<DaemonStatus>>,
    /// Where the objects go.
    pub(crate) objects: StatusObjectsSender,
    /// For jitter.
    pub(crate) seed: u64,
}

/// A running publisher.
#[derive(Debug)]
pub(crate) struct Publishing {
    leaving: oneshot::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Publishing {
    /// Ends it. If this node leaves for good, its objects are deleted, else their state becomes
    /// unknown. Returns once that is written, after two seconds at most.
    pub(crate) async fn end(self, leaving: bool) {
        // It fails if the publisher has ended.
        _ = self.leaving.send(leaving);
        // The objects of a process that can't write stay until its successor writes.
        _ = timeout(END_TIMEOUT, self.ended).await;
    }
}

/// Starts to publish.
pub(crate) fn start(publisher: Publisher) -> Publishing {
    let (leaving_in, leaving) = oneshot::channel();
    let (ended_in, ended) = oneshot::channel();
    tokio::spawn(async move {
        publisher.run(leaving).await;
        // It fails if the process doesn't wait for it.
        _ = ended_in.send(());
    });
    Publishing {
        leaving: leaving_in,
        ended,
    }
}

impl Publisher {
    async fn run(mut self, mut leaving: oneshot::Receiver<bool>) {
        // Without an API server.
        if self.objects.is_closed() {
            return;
        }
        let mut state = Published {
            ledger: Ledger::new(&self.node, self.seed),
            refresh: Refresh::new(Instant::now(), self.seed),
            owner: None,
        };
        let mut tick = interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut engine_runs = true;
        let mut status = self.status.clone();
        let leaving = loop {
            let next = self.publish(&mut state).await;
            let ready = state.refresh.ready;
            tokio::select! {
                leaving = &mut leaving => break leaving.unwrap_or(false),
                event = self.events.recv(), if engine_runs => {
                    engine_runs = event.is_some();
                    sleep(EVENTS).await;
                    self.discard_events().await;
                }
                _ = tick.tick() => {}
                // The leader may already have marked the sessions as Unknown.
                () = await_readiness(&mut status, !ready) => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        };
        self.publish_end(&state, leaving).await;
    }

    /// Events only say that something happened.
    async fn discard_events(&mut self) {
        while let Ok(Some(_)) = timeout(Duration::ZERO, self.events.recv()).await {}
    }

    /// Publishes what is due. Returns when the next write is.
    async fn publish(&self, state: &mut Published) -> Option<Instant> {
        let (initialized, node) = {
            let status = self.status.borrow();
            (status.initialized, status.own_node.clone())
        };
        // Before that the engine has no peers. Without a Node the objects would have no owner.
        let node = node.filter(|_| initialized)?;
        let peers = self.engine.snapshot().await;
        let now = Instant::now();
        for peer in state.ledger.undigested(now.into_std(), &peers) {
            if let Some(digest) = self.digest(&peer.name).await {
                state.ledger.set_digest(peer, digest);
            }
        }
        let outcome = state
            .ledger
            .update(now.into_std(), Timestamp::now(), &peers);
        let next = outcome.next.map(Instant::from_std);
        let mut changed = state.refresh.is_due(now, node.ready) | outcome.changed;
        if state.owner.as_ref() != Some(&node.uid) {
            // At first all sessions together: the writer deletes the objects of all others.
            if !state.ledger.is_complete() {
                return next;
            }
            state.owner = Some(node.uid);
            changed = true;
        }
        if changed {
            self.send(state, state.objects(|_| {}), false);
        }
        next
    }

    /// The digest of the routes that a router has.
    async fn digest(&self, peer: &str) -> Option<String> {
        let routes = self.engine.advertised(peer).await;
        // On another thread, since there may be many.
        let digest = tokio::task::spawn_blocking(move || {
            RouteDigest::of(routes.iter().map(|sent| (&sent.prefix, &sent.route))).to_string()
        });
        digest.await.ok()
    }

    fn send(&self, state: &Published, objects: Objects, last: bool) {
        self.objects.send_replace(Some(Arc::new(StatusObjects {
            objects,
            revision: state.refresh.revision,
            last,
            ..StatusObjects::default()
        })));
    }

    /// The last objects of this process. Returns once they are written.
    async fn publish_end(&self, state: &Published, leaving: bool) {
        if state.owner.is_none() {
            return;
        }
        let now = time(Timestamp::now(), Duration::ZERO).to_string();
        let objects = if leaving {
            Objects::new()
        } else {
            let ended = UnknownReason::AnnouncerEnded;
            state.objects(|status| _ = status.become_unknown(ended, &now))
        };
        self.send(state, objects, true);
        self.objects.closed().await;
    }
}

/// Returns once the Node is Ready, or no longer Ready.
async fn await_readiness(status: &mut watch::Receiver<Arc<DaemonStatus>>, ready: bool) {
    let is_so = |node: &OwnNode| node.ready == ready;
    let result = status.wait_for(|status| {
        // Before that nothing is published.
        status.initialized && status.own_node.as_ref().is_some_and(is_so)
    });
    if result.await.is_err() {
        // The process ends.
        std::future::pending().await
    }
}

/// What was published.
#[derive(Debug)]
struct Published {
    ledger: Ledger,
    refresh: Refresh,
    /// The UID of the Node that owns the objects; none before the first ones.
    owner: Option<Box<str>>,
}

impl Published {
    fn objects(&self, edit: impl Fn(&mut BgpSessionStatus)) -> Objects {
        let owner = self.owner.as_deref().unwrap_or_default();
        let objects = self.ledger.statuses().map(|(session, status)| {
            let mut status = status.clone();
            edit(&mut status);
            let object = object(session, owner, &status);
            (object_name(&status.node, session), Arc::new(object))
        });
        objects.collect()
    }
}

/// When all objects are written again. Pure.
#[derive(Debug)]
struct Refresh {
    due: Instant,
    ready: bool,
    revision: u64,
    random: fastrand::Rng,
}

impl Refresh {
    fn new(now: Instant, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            due: now + REFRESH.mul_f64(1.0 + random.f64()),
            ready: true,
            revision: 0,
            random,
        }
    }

    /// Whether it is time. `ready` is the Node's condition.
    fn is_due(&mut self, now: Instant, ready: bool) -> bool {
        let was_ready = std::mem::replace(&mut self.ready, ready);
        let jitter = 1.0 + self.random.f64();
        let (is_due, next) = match (was_ready, ready) {
            (false, true) => (true, REFRESH_AFTER_READY),
            (true, false) => (false, REFRESH_AFTER_NOT_READY.mul_f64(jitter)),
            (true, true) => (now >= self.due, REFRESH.mul_f64(jitter)),
            (false, false) => (now >= self.due, REFRESH_NOT_READY.mul_f64(jitter)),
        };
        if is_due || was_ready != ready {
            self.due = now + next;
        }
        self.revision += u64::from(is_due);
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_written_again_after_ten_minutes_and_when_the_node_becomes_ready() {
        let start = Instant::now();
        let mut refresh = Refresh::new(start, 1);
        assert!(!refresh.is_due(start, true));
        assert!(!refresh.is_due(start + REFRESH - POLL, true));
        let due = start + REFRESH * 2;
        assert!(refresh.is_due(due, true));
        assert!(!refresh.is_due(due + POLL, false), "it is not ready");
        assert!(!refresh.is_due(due + POLL * 2, false));
        let ready = due + POLL * 3;
        assert!(refresh.is_due(ready, true));
        assert!(!refresh.is_due(ready + POLL, true));
        assert!(refresh.is_due(ready + REFRESH_AFTER_READY, true));
        assert!(!refresh.is_due(ready + REFRESH_AFTER_READY + POLL, true));
        assert_eq!(refresh.revision, 3);
    }

    #[test]
    fn objects_are_written_again_every_minute_or_two_while_the_node_is_not_ready() {
        let start = Instant::now();
        let mut refresh = Refresh::new(start, 1);
        assert!(!refresh.is_due(start, false));
        assert!(!refresh.is_due(start + REFRESH_AFTER_NOT_READY - POLL, false));
        let first = start + REFRESH_AFTER_NOT_READY * 2;
        assert!(refresh.is_due(first, false));
        assert!(!refresh.is_due(first + REFRESH_NOT_READY - POLL, false));
        let second = first + REFRESH_NOT_READY * 2;
        assert!(refresh.is_due(second, false));
        assert!(!refresh.is_due(second + POLL, false));
        let ready = second + POLL * 2;
        assert!(refresh.is_due(ready, true));
        assert!(refresh.is_due(ready + REFRESH_AFTER_READY, true));
        let rarely = ready + REFRESH_AFTER_READY + REFRESH - POLL;
        assert!(!refresh.is_due(rarely, true));
        assert_eq!(refresh.revision, 4);
    }
}
