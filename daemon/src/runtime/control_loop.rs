//! The daemon's one loop: changes come in, what they touch is decided anew, and goes out to the BGP engine and into the
//! status of services. It knows no Kubernetes and no BGP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::core::allocate::{Allocation, AllocationResult};
use crate::core::api::Kind;
use crate::core::config::{Problem, Severity};
use crate::core::index::{Dirty, Index};
use crate::runtime::announce::announcer::Announcer;
use crate::runtime::announce::drain::{NodeExit, RouterPaths, StopFacts, StopMode, farewell};
use crate::runtime::announce::state_file::SavedState;
use crate::runtime::source::{Event, Source};
use crate::runtime::status::{Announced, DaemonStatus};
use crate::runtime::turn::Turn;

/// A first change goes out at once, those that follow within this time go together.
const TOGETHER: Duration = Duration::from_millis(10);
/// How long a starting announcer waits for the API server before it announces what was saved.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);

/// What routes depend on.
const ANNOUNCED_FROM: [Kind; 7] = [
    Kind::Node,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::BfdProfile,
    Kind::BgpPeer,
    Kind::FerrolbBgpPeer,
    Kind::BgpAdvertisement,
];

/// What the loop works on.
#[derive(Debug)]
pub struct ControlLoop {
    /// The kinds that must have been listed once before anything is decided.
    pub kinds: &'static [Kind],
    /// Present in the role of an announcer.
    pub announcer: Option<Announcer>,
    /// Whether to allocate when leading.
    pub allocate: bool,
    /// Nodes that are excluded from load balancers announce all the same.
    pub ignore_exclusion: bool,
    /// What was saved before the restart.
    pub saved: Option<SavedState>,
    /// Whether the node has an interface of this name: asked again and again, they come and go.
    pub interface_exists: fn(&str) -> bool,
    /// Where the rest of the program reads what is going on.
    pub report: watch::Sender<Arc<DaemonStatus>>,
}

struct Running {
    agent: ControlLoop,
    index: Index,
    allocation: Allocation,
    leading: bool,
    touched: Dirty,
    /// Whether there was a first decision.
    decided: bool,
    turn: Turn,
    waits_for_status: bool,
    unpublished: bool,
    problems: BTreeSet<Problem>,
    announced: Announced,
    source_errors: Vec<String>,
    updates: u64,
}

impl ControlLoop {
    /// Runs until the source ends, or until what has to be done before stopping is done: `stop` says that it is wanted, and
    /// whether the own DaemonSet is gone. The answer is how to take leave; none: the source has ended.
    pub async fn run(
        mut self,
        source: &mut Source,
        mut stop: oneshot::Receiver<bool>,
    ) -> Option<StopMode> {
        let mut saved = self.saved.take();
        let has_saved = saved.as_ref().is_some_and(|saved| !saved.is_empty());
        let mut running = Running::new(self);
        let patience = Instant::now() + PATIENCE;
        let mut handed_over = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leave = None;
        loop {
            if leave.is_some() && running.has_left() {
                return leave;
            }
            tokio::select! {
                event = source.events.recv() => match event {
                    Some(event) => running.take_in(event),
                    None => return leave,
                },
                Ok(daemonset_gone) = &mut stop, if leave.is_none() => {
                    leave = Some(running.stop(daemonset_gone).await);
                    continue;
                }
                _ = tick.tick() => {
                    running.tick().await;
                    if running.waits_for_status && Instant::now() >= patience {
                        running.waits_for_status = false;
                        running.hand_over(source, patience);
                    }
                    if !running.look_at_interfaces() {
                        continue;
                    }
                }
                () = sleep_until(patience), if saved.is_some() => {
                    running.restore(saved.take());
                    continue;
                }
            }
            // Before everything was listed once there is nothing to hand over.
            let listed = running.index.is_synced(running.agent.kinds);
            if listed && handed_over.elapsed() < TOGETHER {
                sleep_until(handed_over + TOGETHER).await;
            }
            loop {
                match source.events.try_recv() {
                    Ok(event) => running.take_in(event),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return leave,
                }
            }
            // Who names one, and which node this is, tell these alone; the interfaces themselves every second will do.
            if running.touched.configuration || !running.touched.nodes.is_empty() {
                running.look_at_interfaces();
            }
            if running.touched.may_change_problems() && running.index.is_synced(running.agent.kinds)
            {
                running.tell_problems();
            }
            if running.is_complete(has_saved) {
                saved = None;
                running.hand_over(source, patience);
            }
            running.turn.end();
            handed_over = Instant::now();
        }
    }
}

impl Running {
    fn new(agent: ControlLoop) -> Self {
        Self {
            index: Index::for_kinds(agent.kinds).ignoring_exclusion(agent.ignore_exclusion),
            agent,
            allocation: Allocation::default(),
            leading: false,
            touched: Dirty::default(),
            decided: false,
            turn: Turn::default(),
            waits_for_status: false,
            unpublished: false,
            problems: BTreeSet::new(),
            announced: Announced::default(),
            source_errors: Vec::new(),
            updates: 0,
        }
    }

    /// Whether a complete desired state can be decided. Whoever announced before a restart waits until what that depends
    /// on was really listed: that the API server refuses to tell is no reason to withdraw.
    fn is_complete(&self, has_saved: bool) -> bool {
        self.index.is_synced(self.agent.kinds)
            && (!has_saved || self.index.is_listed(&ANNOUNCED_FROM))
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Change(change) => {
                self.updates += 1;
                self.turn.add(&change);
                let touched = self.index.apply(change);
                if self.decided {
                    self.touched.merge(touched);
                } else {
                    // The first decision is about everything, whatever was touched.
                    self.touched.configuration = true;
                }
            }
            Event::Errors(errors) => self.tell_source_errors(errors),
            Event::Leading(leading) => {
                if leading {
                    tracing::info!("this process gives out addresses now");
                } else {
                    tracing::info!("this process gives out addresses no longer");
                }
                self.leading = leading;
                self.allocation.reset();
                // Everything is decided anew by whoever begins to lead.
                self.touched.configuration |= leading;
            }
        }
    }

    /// Looks for the interfaces that BGPPeers name; tells whether that is news.
    fn look_at_interfaces(&mut self) -> bool {
        let Some(announcer) = &self.agent.announcer else {
            return false;
        };
        let node = announcer.desired().node();
        let mut missing = self.index.source_interfaces(node);
        missing.retain(|name| !(self.agent.interface_exists)(name));
        let touched = self.index.set_missing_interfaces(node, missing);
        let news = !touched.is_empty();
        self.touched.merge(touched);
        news
    }

    fn hand_over(&mut self, source: &Source, patience: Instant) {
        let touched = std::mem::take(&mut self.touched);
        let announcer = self.agent.announcer.as_ref();
        let first = announcer.is_some_and(|announcer| !announcer.handed_over());
        if touched.is_empty() && !first {
            return;
        }
        self.decided = true;
        // Addresses first: what is announced follows from the status that comes back.
        if self.agent.allocate && self.leading {
            self.allocate(source, &touched);
        }
        // The first desired state is to be whole: End-of-RIB follows it. But nobody waits for a status for ever.
        self.waits_for_status = first && self.allocation.is_writing() && Instant::now() < patience;
        if self.waits_for_status {
            return;
        }
        if let Some(announcer) = &mut self.agent.announcer {
            announcer.hand_over(Instant::now().into_std(), &self.index, &touched);
            announcer.note_announced(&self.index, &touched, &self.announced);
            if first {
                announcer.save();
            }
        }
        // Readiness and what is wrong with objects are published at once. The rest waits for the next tick: nobody reads it
        // that often.
        self.unpublished = true;
        if touched.problems || touched.configuration || !self.agent.report.borrow().ready() {
            self.publish();
        }
    }

    /// Decides how to take leave, and begins with it.
    async fn stop(&mut self, daemonset_gone: bool) -> StopMode {
        let Some(announcer) = &mut self.agent.announcer else {
            return StopMode::GracefulRestart;
        };
        let node = self.index.nodes().get(announcer.desired().node());
        let leave = farewell(StopFacts {
            // Of a node that was never there nothing can be said.
            departure: NodeExit::of(node).filter(|_| announcer.handed_over()),
            daemonset_gone,
        });
        let peers = announcer.engine().snapshot().await;
        announcer.stop(Instant::now().into_std(), &self.index, leave, &peers);
        leave
    }

    fn has_left(&self) -> bool {
        self.agent
            .announcer
            .as_ref()
            .is_none_or(Announcer::has_left)
    }

    fn allocate(&mut self, source: &Source, touched: &Dirty) {
        let AllocationResult {
            outcomes,
            new_reasons,
            writes,
        } = self.allocation.decide(&self.index, touched);
        for name in new_reasons {
            let outcome = outcomes.get(&name);
            if let Some((reason, message)) = outcome.and_then(|o| o.reason().zip(o.message())) {
                tracing::warn!(service = %name, reason = reason.code(), "{message}");
            }
        }
        for write in writes {
            tracing::info!(
                service = %write.service,
                addresses = write.shown_addresses(),
                pool = write.pool.as_deref().unwrap_or_default(),
                "address"
            );
            if source.status.send(write).is_err() {
                tracing::warn!("statuses can't be written any more: the source has ended");
            }
        }
    }

    /// Says what can't be read at the source, once.
    fn tell_source_errors(&mut self, errors: Vec<String>) {
        for error in errors
            .iter()
            .filter(|error| !self.source_errors.contains(error))
        {
            tracing::error!("{error}; what stood there before, if anything, keeps running");
        }
        for error in self
            .source_errors
            .iter()
            .filter(|error| !errors.contains(error))
        {
            tracing::info!("mended: {error}");
        }
        self.source_errors = errors;
        self.touched.problems = true;
    }

    /// Says what is wrong with objects, once.
    fn tell_problems(&mut self) {
        let problems: BTreeSet<Problem> = self.index.problems().into_iter().collect();
        for problem in problems.difference(&self.problems) {
            match problem.severity {
                Severity::Error => tracing::error!(object = %problem.object, "{}", problem.message),
                Severity::UnknownField | Severity::Notice => {
                    tracing::warn!(object = %problem.object, "{}", problem.message)
                }
            }
        }
        for gone in self.problems.difference(&problems) {
            tracing::info!(object = %gone.object, "mended: {}", gone.message);
        }
        // Also where nothing is handed over yet, they are to be seen in the metrics.
        self.unpublished |= self.problems != problems;
        self.problems = problems;
    }

    async fn tick(&mut self) {
        if let Some(announcer) = &mut self.agent.announcer {
            if announcer.waits_for_routers() {
                let seen = announcer.engine().other_paths().await;
                announcer.see(RouterPaths::new(seen));
            }
            if announcer.catch_up(Instant::now().into_std()) {
                announcer.note_announced(&self.index, &Dirty::default(), &self.announced);
                self.unpublished = true;
            }
            announcer.save();
        }
        if self.unpublished {
            self.publish();
        } else {
            let now = Some(Instant::now());
            self.agent
                .report
                .send_modify(|report| Arc::make_mut(report).alive = now);
        }
    }

    fn restore(&mut self, saved: Option<SavedState>) {
        if let (Some(announcer), Some(saved)) = (&mut self.agent.announcer, saved) {
            announcer.restore(Instant::now().into_std(), saved);
        }
    }

    fn publish(&mut self) {
        self.unpublished = false;
        let announcer = self.agent.announcer.as_ref();
        let report = DaemonStatus {
            alive: Some(Instant::now()),
            config: Some(self.index.config().clone()),
            problems: self.problems.iter().cloned().collect(),
            source_errors: self.source_errors.clone(),
            handed_over: announcer.is_none_or(Announcer::handed_over),
            announced: self.announced.clone(),
            routes: announcer.map(Announcer::route_counts).unwrap_or_default(),
            waiting: announcer
                .map(|announcer| announcer.waiting().clone())
                .unwrap_or_default(),
            refused_peers: announcer
                .map(|announcer| self.index.rejected_peers(announcer.desired().node()))
                .unwrap_or_default(),
            held: self.agent.allocate.then(|| held(&self.index)),
            updates: self.updates,
            panicked: false,
        };
        self.agent.report.send_replace(Arc::new(report));
    }
}

fn held(index: &Index) -> BTreeSet<IpAddr> {
    let ours = index.services().filter(|service| service.is_ours());
    ours.flat_map(|service| service.addresses().iter().copied())
        .collect()
}
