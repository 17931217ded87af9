//! The control loop: applies changes from the source to the index, decides what they affect, and
//! passes the results to the engines of BGP and layer 2 and to the Service status. It uses neither
//! the Kubernetes client nor sockets.

mod allocation;
mod explain;
mod first_announcements;
mod floors;
mod host;
mod metallb_controller;
mod unannounced;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::core::allocate::Allocation;
use crate::core::allocate::object_status::ObjectStatuses;
use crate::core::allocate::pool_status::in_use;
use crate::core::api::Kind;
use crate::core::config::{Problem, Severity};
use crate::core::decide::Reason;
use crate::core::decide::discards::discards;
use crate::core::decide::floor::Floors;
use crate::core::decide::unannounced::Unannounced;
use crate::core::index::{Dirty, Index};
use crate::runtime::announce::announcer::Announcer;
use crate::runtime::announce::assigned::Assigned;
use crate::runtime::announce::discard::Discards;
use crate::runtime::announce::drain::{NodeExit, RouterPaths, StopFacts, StopMode, stop_mode};
use crate::runtime::announce::layer2::Layer2Announcer;
use crate::runtime::announce::state_file::SavedState;
use crate::runtime::gate::Gate;
use crate::runtime::gate::probe::Answer;
use crate::runtime::questions::Questions;
use crate::runtime::source::{ApiWrite, Event, Source};
use crate::runtime::status::{Announced, DaemonStatus, Layer2Services, OwnNode};
use crate::runtime::turn::Turn;

/// Changes that arrive within this time after a turn with an effect are applied together. The first
/// one is applied at once. A turn without effect delays nothing: a new Service has no address yet,
/// and the status with its address follows within milliseconds.
const BATCH_WINDOW: Duration = Duration::from_millis(10);
/// How long a starting announcer waits for the initial sync before it announces the saved routes.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
/// Interval of requests for the key that authenticates hellos, until it exists.
const KEY_REQUEST_INTERVAL: Duration = Duration::from_secs(30);

/// The kinds that routes are computed from.
const ANNOUNCED_FROM: [Kind; 11] = [
    Kind::Node,
    Kind::ConfigMap,
    Kind::AddressPool,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::BfdProfile,
    Kind::FerrolbBfdProfile,
    Kind::BgpPeer,
    Kind::FerrolbBgpPeer,
    Kind::BgpAdvertisement,
    Kind::FerrolbBgpAdvertisement,
];

/// The parts that the control loop works with.
#[derive(Debug)]
pub struct ControlLoop {
    /// Kinds that must be listed before the first decision.
    pub kinds: &'static [Kind],
    /// Set in roles that announce over BGP.
    pub announcer: Option<Announcer>,
    /// Set in roles that announce by layer 2.
    pub layer2: Option<Layer2Announcer>,
    /// Delays the first announcements.
    pub gate: Gate,
    /// Whether to allocate addresses while this process is the leader.
    pub allocate: bool,
    /// Announce from nodes that are excluded from load balancers as well.
    pub ignore_exclusion: bool,
    /// The `loadBalancerClass` of the Services to serve. None: those without one.
    pub lb_class: Option<String>,
    /// State saved before the restart.
    pub saved: Option<SavedState>,
    /// Whether the node has an interface of this name. Checked every second, since interfaces come
    /// and go.
    pub interface_exists: fn(&str) -> bool,
    /// The addresses of the node's interfaces. Read every second if a BGPPeer needs them, since
    /// they come and go.
    pub host_addresses: fn() -> io::Result<BTreeSet<IpAddr>>,
    /// Discards packets to unused addresses of announced aggregates.
    pub discards: Discards,
    /// What the control socket asks.
    pub questions: Questions,
    /// Publishes the daemon's status to probes, metrics and the control socket.
    pub status: watch::Sender<Arc<DaemonStatus>>,
}

struct Running {
    control: ControlLoop,
    index: Index,
    allocation: Allocation,
    leading: bool,
    dirty: Dirty,
    /// Whether the first decision has been made.
    decided: bool,
    /// When the first change was seen that is not decided yet.
    seen: Option<Instant>,
    turn: Turn,
    /// Number of prefixes that the kernel refuses to discard packets to.
    undiscarded: usize,
    /// Whether the first routes wait for status writes, or for first answers about services.
    awaits_first: bool,
    unpublished: bool,
    problems: BTreeSet<Problem>,
    announced: Announced,
    /// The services that have had an Event.
    assigned: Assigned,
    source_errors: Vec<String>,
    updates: u64,
    /// Whether this process's Node exists, as last logged.
    node_known: bool,
    object_statuses: ObjectStatuses,
    /// Whether they may have changed, or differ from what was written.
    object_statuses_due: bool,
    /// When the key that authenticates hellos was last requested, while there is none.
    key_requested: Option<Instant>,
    /// Why nothing is announced yet, as last reported.
    delayed: Option<(Reason, String)>,
    /// The Pod of MetalLB's controller, while one runs.
    metallb_controller: Option<String>,
    floors: Floors,
    unannounced: Unannounced,
    /// When they were last looked at.
    unannounced_at: Option<Instant>,
}

impl ControlLoop {
    /// Runs until the source ends or a requested stop is complete. `stop` requests it; its value
    /// says whether ferrolb's own DaemonSet is gone. Returns how to shut down, or `None` if the
    /// source ended.
    pub async fn run(
        mut self,
        source: &mut Source,
        mut stop: oneshot::Receiver<bool>,
    ) -> Option<StopMode> {
        let mut saved = self.saved.take();
        let has_saved = saved.as_ref().is_some_and(|saved| !saved.is_empty());
        let mut answers = self.gate.take_answers();
        let mut questions = std::mem::take(&mut self.questions);
        let mut running = Running::new(self);
        let sync_deadline = Instant::now() + SYNC_TIMEOUT;
        let mut last_effect = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut mode = None;
        loop {
            if mode.is_some() && running.is_drained() {
                return mode;
            }
            tokio::select! {
                event = source.events.recv() => match event {
                    Some(event) => running.handle(source, event),
                    None => return mode,
                },
                answer = next(&mut answers) => running.handle_answer(answer),
                question = questions.next() => {
                    running.answer(question);
                    continue;
                }
                Ok(daemonset_gone) = &mut stop, if mode.is_none() => {
                    mode = Some(running.stop(daemonset_gone).await);
                    continue;
                }
                _ = tick.tick() => {
                    running.tick(source).await;
                    running.write_object_statuses(source);
                    running.write_due_floor_events(source);
                    running.report_unannounced(source);
                    if running.key_requested.is_some() {
                        running.request_hello_key(source);
                    }
                    if running.awaits_first && Instant::now() >= sync_deadline {
                        running.awaits_first = false;
                        running.update(source, sync_deadline);
                    }
                    let released = running.release_expired();
                    let changed = running.check_interfaces();
                    if !running.add_discards() && !changed && !released {
                        continue;
                    }
                }
                () = sleep_until(sync_deadline), if saved.is_some() && !running.is_delayed() => {
                    running.restore(saved.take());
                    continue;
                }
            }
            // Until the initial sync is complete there is nothing to apply.
            let listed = running.index.is_synced(running.control.kinds);
            if listed && last_effect.elapsed() < BATCH_WINDOW {
                sleep_until(last_effect + BATCH_WINDOW).await;
            }
            loop {
                match source.events.try_recv() {
                    Ok(event) => running.handle(source, event),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return mode,
                }
            }
            // Only the configuration and the node decide which interfaces matter. The interfaces
            // themselves are checked every second.
            if running.dirty.configuration || !running.dirty.nodes.is_empty() {
                running.check_interfaces();
                running.add_discards();
            }
            if running.dirty.may_change_problems() && running.index.is_synced(running.control.kinds)
            {
                running.log_problems();
            }
            running.report_hold();
            if running.is_complete(has_saved) {
                saved = None;
                if running.update(source, sync_deadline) {
                    last_effect = Instant::now();
                }
            }
            running.turn.end();
        }
    }
}

impl ControlLoop {
    /// The name of the node, unless this process only allocates.
    fn node(&self) -> Option<&str> {
        let announcer = self.announcer.as_ref();
        let bgp = announcer.map(|announcer| announcer.node_routes().node());
        bgp.or_else(|| self.layer2.as_ref().map(Layer2Announcer::node))
    }
}

impl Running {
    fn new(control: ControlLoop) -> Self {
        Self {
            index: Index::for_kinds(control.kinds)
                .ignoring_exclusion(control.ignore_exclusion)
                .in_charge_of(control.lb_class.as_deref()),
            control,
            allocation: Allocation::default(),
            leading: false,
            dirty: Dirty::default(),
            decided: false,
            seen: None,
            turn: Turn::default(),
            undiscarded: 0,
            awaits_first: false,
            unpublished: false,
            problems: BTreeSet::new(),
            announced: Announced::default(),
            assigned: Assigned::default(),
            source_errors: Vec::new(),
            updates: 0,
            node_known: true,
            object_statuses: ObjectStatuses::default(),
            object_statuses_due: false,
            key_requested: None,
            delayed: None,
            metallb_controller: None,
            floors: Floors::default(),
            unannounced: Unannounced::default(),
            unannounced_at: None,
        }
    }

    /// Whether the index is complete enough to decide all routes. With saved state, every kind that
    /// routes depend on must really have been listed: an API server that refuses a list is no
    /// reason to withdraw routes.
    fn is_complete(&self, has_saved: bool) -> bool {
        self.index.is_synced(self.control.kinds)
            && (!has_saved || self.index.is_listed(&ANNOUNCED_FROM))
    }

    fn handle(&mut self, source: &Source, event: Event) {
        match event {
            // A folder may contain objects that this role doesn't need.
            Event::Change(change) if !self.reads(change.kind()) => {}
            Event::Change(change) => {
                self.updates += 1;
                self.seen.get_or_insert_with(Instant::now);
                self.turn.add(&change);
                let mut dirty = self.index.apply(change);
                let released = std::mem::take(&mut dirty.released);
                // A leader's allocator knows these services itself.
                if self.control.allocate && !self.leading {
                    self.allocation.remember(released);
                }
                if self.decided {
                    self.dirty.merge(dirty);
                } else {
                    // The first decision covers everything.
                    self.dirty.configuration = true;
                }
            }
            Event::Errors(errors) => self.log_source_errors(errors),
            Event::Leading(leading) => {
                if !self.control.allocate {
                    return;
                }
                if leading {
                    tracing::info!("became leader: allocating addresses");
                } else {
                    tracing::info!("lost leadership: no longer allocating addresses");
                }
                self.leading = leading;
                self.unpublished = true;
                self.allocation.reset();
                self.object_statuses = ObjectStatuses::default();
                self.floors = Floors::default();
                self.unannounced = Unannounced::default();
                // A new leader decides everything again.
                self.dirty.configuration |= leading;
            }
            Event::ReadyNodes(nodes) => {
                if let Some(layer2) = &mut self.control.layer2 {
                    layer2.set_ready_nodes(nodes);
                    self.follow_layer2();
                }
            }
            Event::MetallbSpeaker(pod) => self.see_speaker(source, pod),
            Event::MetallbController(pod) => self.see_controller(source, pod),
        }
    }

    /// Whether objects of a kind have an effect. An allocator reads EndpointSlices only if it needs
    /// them ([`Source::needs_endpoints`]).
    fn reads(&self, kind: Kind) -> bool {
        let by_allocator = self.control.allocate && kind == Kind::EndpointSlice;
        self.control.kinds.contains(&kind) || by_allocator
    }

    /// Decides what changes affect. Returns whether that had an effect outside of this process, or
    /// may have been expensive.
    fn update(&mut self, source: &Source, sync_deadline: Instant) -> bool {
        let mut dirty = std::mem::take(&mut self.dirty);
        let seen = self.seen.take().map(Instant::into_std);
        let announcer = self.control.announcer.as_ref();
        let first = announcer.is_some_and(|announcer| !announcer.initialized());
        let layer2 = self.control.layer2.as_ref();
        let first = first || layer2.is_some_and(|layer2| !layer2.initialized());
        if dirty.is_empty() && !first {
            return false;
        }
        let mut effect = first || dirty.configuration || !dirty.nodes.is_empty();
        self.decided = true;
        if self.control.allocate && (dirty.configuration || !dirty.nodes.is_empty()) {
            source.sessions.set_unready(self.unready_nodes());
        }
        self.request_hello_key(source);
        self.log_missing_node();
        // Addresses first: the status that the write results in decides what is announced.
        if self.control.allocate && self.leading {
            effect |= self.allocate(source, &dirty);
            self.object_statuses_due = true;
            self.read_endpoints(source);
            self.check_floors(source, &dirty);
            self.check_unannounced(&dirty);
        }
        // What is not initialized decides everything when nothing delays it any longer.
        if first && self.is_delayed() {
            return effect;
        }
        let delayed = self.delay_services(&dirty, first);
        dirty.merge(delayed);
        // End-of-RIB follows the first routes, so they must be complete: wait for pending status
        // writes and first answers of the service proxy, but only until the deadline.
        let is_waiting = self.allocation.is_writing() || self.control.gate.services().is_asking();
        self.awaits_first = first && is_waiting && Instant::now() < sync_deadline;
        if self.awaits_first {
            return effect;
        }
        if let Some(layer2) = &mut self.control.layer2 {
            effect = true;
            if layer2.update(Instant::now().into_std(), &self.index, &dirty) {
                self.log_problems();
            }
        }
        if let Some(announcer) = &mut self.control.announcer {
            effect |= announcer.update(Instant::now().into_std(), &self.index, &dirty, seen);
            source.sessions.want(announcer.awaited_peers());
            announcer.update_announced(&self.index, &dirty, &self.announced);
            let node = announcer.node_routes().node();
            let events = self
                .assigned
                .update(node, &self.index, &dirty, &self.announced);
            for event in events {
                source.writes.send(ApiWrite::Event(event));
            }
            if first {
                announcer.save();
            }
            let node = announcer.node_routes().node();
            // Aggregates of a pool that was never read may still be announced.
            if (first || dirty.needs_full_decision(node))
                && self.index.config().pools.complete()
                && let Some(wanted) = discards(&self.index, node)
            {
                let now = Instant::now().into_std();
                self.control.discards.retain(now, &wanted);
            }
        }
        // Publish readiness, problems and changes of this node at once, everything else at the next
        // tick.
        self.unpublished = true;
        let own_node = self.control.node();
        let of_node = own_node.is_some_and(|node| dirty.nodes.contains(node));
        let urgent = dirty.problems || dirty.configuration || of_node;
        if urgent || !self.control.status.borrow().ready() {
            self.publish();
        }
        effect
    }

    /// The nodes that are not Ready; none if this process doesn't lead.
    fn unready_nodes(&self) -> Option<BTreeSet<String>> {
        let nodes = self.index.nodes().iter();
        let unready = nodes.filter(|(_, node)| !node.ready);
        self.leading
            .then(|| unready.map(|(name, _)| name.clone()).collect())
    }

    /// Logs once that the Node object of this process doesn't exist, and when it does.
    fn log_missing_node(&mut self) {
        let Some(node) = self.control.node() else {
            return;
        };
        let known = self.index.nodes().contains_key(node);
        if known == self.node_known {
            return;
        }
        self.node_known = known;
        if known {
            tracing::info!(node, "the Node object exists");
        } else {
            tracing::warn!(
                node,
                "no Node object of this name, so nothing is announced: check --node-name \
                 (NODE_NAME)"
            );
        }
    }

    /// Passes to layer 2 what doesn't result from a change of an object.
    fn follow_layer2(&mut self) {
        let Some(layer2) = &mut self.control.layer2 else {
            return;
        };
        // Before the first update the configuration is incomplete.
        if layer2.initialized() && layer2.follow(Instant::now().into_std(), &self.index) {
            self.log_problems();
        }
    }

    /// Requests the key that authenticates hellos where there is none, as the leader.
    fn request_hello_key(&mut self, source: &Source) {
        let config = self.index.config();
        let needed = !config.layer2_advertisements.is_empty() && !config.hello_secrets.exists;
        if !(self.control.allocate && self.leading && needed) {
            self.key_requested = None;
            return;
        }
        // An API server that refuses to list Secrets may have one.
        let due = self
            .key_requested
            .is_none_or(|last| last.elapsed() >= KEY_REQUEST_INTERVAL);
        if due && self.index.is_listed(&[Kind::Secret]) {
            self.key_requested = Some(Instant::now());
            source.writes.send(ApiWrite::CreateHelloKey);
        }
    }

    /// Decides how to shut down, and begins the drain.
    async fn stop(&mut self, daemonset_gone: bool) -> StopMode {
        let Some(node) = self.control.node() else {
            return StopMode::GracefulRestart;
        };
        let node_exit = NodeExit::of(self.index.nodes().get(node));
        let mode = stop_mode(StopFacts {
            // Without a first update, a missing Node may only be one that was not listed yet.
            node_exit: node_exit.filter(|_| self.decided),
            daemonset_gone,
        });
        if let Some(announcer) = &mut self.control.announcer {
            let peers = announcer.engine().snapshot().await;
            announcer.stop(Instant::now().into_std(), &self.index, mode, &peers);
        }
        mode
    }

    fn is_drained(&self) -> bool {
        self.control
            .announcer
            .as_ref()
            .is_none_or(Announcer::is_drained)
    }

    /// Logs each new and each resolved error of the source once.
    fn log_source_errors(&mut self, errors: Vec<String>) {
        for error in errors
            .iter()
            .filter(|error| !self.source_errors.contains(error))
        {
            tracing::error!("{error}; the last valid version, if any, stays in use");
        }
        for error in self
            .source_errors
            .iter()
            .filter(|error| !errors.contains(error))
        {
            tracing::info!(status = "resolved", "resolved: {error}");
        }
        self.source_errors = errors;
        self.dirty.problems = true;
    }

    /// Logs each new and each resolved problem of an object once.
    fn log_problems(&mut self) {
        let layer2 = self.control.layer2.as_ref();
        let layer2 = layer2.and_then(Layer2Announcer::problem);
        let problems = self.index.problems().into_iter();
        let problems: BTreeSet<Problem> = problems.chain(layer2).collect();
        for problem in problems.difference(&self.problems) {
            match problem.severity {
                Severity::Error => {
                    let correction = self.index.correction(&problem.object);
                    let meant = correction.map(|text| format!("; probably meant:\n{text}"));
                    let meant = meant.unwrap_or_default();
                    tracing::error!(object = %problem.object, "{}{meant}", problem.message)
                }
                Severity::UnknownField | Severity::Notice => {
                    tracing::warn!(object = %problem.object, "{}", problem.message)
                }
            }
        }
        for problem in self.problems.difference(&problems) {
            let Problem {
                object, message, ..
            } = problem;
            tracing::info!(%object, status = "resolved", "resolved: {message}");
        }
        // Metrics show problems also before the first update.
        self.unpublished |= self.problems != problems;
        self.problems = problems;
    }

    async fn tick(&mut self, source: &Source) {
        self.follow_layer2();
        if !self.leading {
            source.sessions.set_unready(None);
        }
        let now = Instant::now().into_std();
        self.control.discards.remove_due(now);
        if let Some(announcer) = &mut self.control.announcer {
            // Other peers may be configured now, or the drain may have ended.
            source.sessions.want(announcer.awaited_peers());
            if announcer.needs_router_paths() {
                let seen = announcer.engine().other_paths().await;
                let sessions = source.sessions.states.borrow().clone();
                announcer.set_router_paths(&self.index, RouterPaths::new(seen, sessions));
            }
            if announcer.tick(Instant::now().into_std()) {
                announcer.update_announced(&self.index, &Dirty::default(), &self.announced);
                self.unpublished = true;
            }
            announcer.save();
        }
        if self.unpublished {
            self.publish();
        } else {
            let now = Some(Instant::now());
            self.control
                .status
                .send_modify(|status| Arc::make_mut(status).alive = now);
        }
    }

    fn restore(&mut self, saved: Option<SavedState>) {
        if let (Some(announcer), Some(saved)) = (&mut self.control.announcer, saved) {
            let cause =
                "initial sync incomplete after 5 s (check the connection to the API server)";
            announcer.restore(Instant::now().into_std(), saved, cause);
        }
    }

    /// Whether layer 2 runs if it is needed. BGP doesn't depend on it.
    fn is_layer2_ready(&self) -> bool {
        let layer2 = self.control.layer2.as_ref();
        layer2.is_none_or(|layer2| {
            layer2.is_ready() || layer2.initialized() && self.control.announcer.is_some()
        })
    }

    fn own_node(&self) -> Option<OwnNode> {
        let node = self.index.nodes().get(self.control.node()?)?;
        Some(OwnNode {
            uid: node.uid.clone(),
            ready: node.ready,
        })
    }

    fn publish(&mut self) {
        self.unpublished = false;
        let withheld = self.withheld();
        let announcer = self.control.announcer.as_ref();
        let status = DaemonStatus {
            alive: Some(Instant::now()),
            config: Some(self.index.config().clone()),
            problems: self.problems.iter().cloned().collect(),
            source_errors: self.source_errors.clone(),
            initialized: announcer.is_none_or(Announcer::initialized),
            layer2_ready: self.is_layer2_ready(),
            announced: self.announced.clone(),
            layer2_services: self
                .control
                .layer2
                .as_ref()
                .map_or_else(Layer2Services::default, |layer2| layer2.services().clone()),
            routes: announcer.map(Announcer::route_counts).unwrap_or_default(),
            waiting: announcer
                .map(|announcer| announcer.waiting().clone())
                .unwrap_or_default(),
            undiscarded: self.undiscarded,
            rejected_peers: announcer
                .map(|announcer| self.index.rejected_peers(announcer.node_routes().node()))
                .unwrap_or_default(),
            allocated: self.control.allocate.then(|| in_use(&self.index)),
            leading: self.leading,
            without_address: without_address(&self.index),
            withheld,
            metallb_speaker: self.control.gate.speaker().map(str::to_owned),
            metallb_controller: self.metallb_controller.clone(),
            below_floor: self.floors.below(),
            unannounced: self.unannounced.counts(),
            own_node: self.own_node(),
            updates: self.updates,
            panicked: false,
        };
        self.control.status.send_replace(Arc::new(status));
    }
}

/// The next answer of the service proxy. Never returns if it is not asked.
async fn next(answers: &mut Option<mpsc::UnboundedReceiver<Answer>>) -> Answer {
    if let Some(answers) = answers
        && let Some(answer) = answers.recv().await
    {
        return answer;
    }
    std::future::pending().await
}

fn without_address(index: &Index) -> usize {
    let ours = index.services().filter(|service| service.is_ours());
    ours.filter(|service| service.addresses().is_empty())
        .count()
}

#[cfg(test)]
mod tests;
