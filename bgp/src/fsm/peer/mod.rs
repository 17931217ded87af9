//! One peer: a configured router, a template of dynamic neighbors, or a dynamic neighbor.
//!
//! [`Peer`] owns the parts and connects them; each part has private fields:
//!
//! * [`dial`]: when to connect; [`retry`]: how long to wait after a failure;
//! * [`slots`]: the TCP connections, each a [`connection`]; [`collision`]: which of two stays;
//! * [`bfd_guard`]: what BFD's state means for the session;
//! * [`capability_fallback`]: OPENs without rejected capabilities;
//! * [`shutdown`]: how the session ends when the speaker does.
//!
//! Inputs arrive in this file (configuration, timers, shutdown), in `connection_events` and in
//! `bfd_events`; `lifecycle` has what follows: established, ended, retry.

mod bfd_events;
mod bfd_guard;
mod capability_fallback;
mod collision;
mod connection;
mod connection_events;
mod dial;
mod graceful_restart;
mod lifecycle;
mod retry;
mod shutdown;
mod slots;
mod status;

use std::io;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use self::bfd_guard::BfdGuard;
use self::capability_fallback::CapabilityFallback;
use self::connection::Connection;
use self::dial::{CONNECT_TIME, Dialer, Expiry};
use self::lifecycle::Ending;
use self::shutdown::PeerShutdown;
use self::slots::Slots;
use super::events::{Event, Output, ShutdownMode};
use super::history::History;
use super::history::cause::Cause;
use super::history::journal::JournalEvent;
use super::other_paths::{OtherPaths, OtherPathsTracker};
use super::shared::Shared;
use super::stall::StallDetector;
use super::state::State;
use super::tcp::IoFailure;
use super::timers::Timer;
use crate::config::PeerConfig;
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

/// How long a dynamic neighbor without a connection is kept, so that its status can be inspected.
const DYNAMIC_KEPT: Duration = Duration::from_secs(300);

/// The template of a dynamic neighbor.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) index: PeerIndex,
    pub(super) name: String,
}

/// One peer.
///
/// Between two inputs these hold:
///
/// * `state` is that of the most advanced connection in `slots`, or else that of `dialer`. While an
///   input is handled it may lag; each input ends with
///   [`emit_state_change`](Self::emit_state_change).
/// * An attempt of `dialer` (Connect) is in no slot yet. There may be an accepted connection beside
///   it: then the two race, and `state` is that of the connection.
/// * `dialer` waits (Idle, Active) only while `slots` is empty.
/// * `dialer` is disabled if the configuration cannot be applied, and during a shutdown. Only in
///   the latter case `slots` may have a connection: the session, until its last routes are sent.
/// * An established session excludes an attempt and a second connection, with one exception: the
///   accepted connection that may replace it (RFC 4724 §4.2).
#[derive(Debug)]
pub(super) struct Peer {
    config: PeerConfig,
    /// Only dynamic neighbors have one.
    template: Option<Template>,
    index: PeerIndex,
    slots: Slots,
    dialer: Dialer,
    fallback: CapabilityFallback,
    bfd: BfdGuard,
    shutdown: PeerShutdown,
    stall: StallDetector,
    /// The state last reported, and since when.
    state: State,
    since: Instant,
    established_count: u64,
    history: History,
    other_paths: OtherPathsTracker,
}

impl Peer {
    /// A peer that does nothing before [`reconfigure`](Self::reconfigure).
    pub(super) fn new(
        now: Instant,
        index: PeerIndex,
        config: PeerConfig,
        template: Option<Template>,
        shared: &Shared,
    ) -> Self {
        Self {
            config,
            template,
            index,
            slots: Slots::default(),
            dialer: Dialer::default(),
            fallback: CapabilityFallback::default(),
            bfd: BfdGuard::default(),
            shutdown: PeerShutdown::default(),
            stall: StallDetector::default(),
            state: State::Idle,
            since: now,
            established_count: 0,
            history: History::after(shared.journalled),
            other_paths: OtherPathsTracker::new(shared.tracks_other_paths),
        }
    }

    pub(super) fn config(&self) -> &PeerConfig {
        &self.config
    }

    pub(super) fn template(&self) -> Option<&Template> {
        self.template.as_ref()
    }

    /// Starts, or starts again after a wait (RFC 4271 §8.1.2 ManualStart, AutomaticStart, and their
    /// passive variants; §8.1.3 IdleHoldTimer_Expires, ConnectRetryTimer_Expires).
    fn start(&mut self, now: Instant, shared: &mut Shared) {
        self.request_bfd(now, shared);
        self.dialer.start(now, self.index, &self.config, shared);
        self.emit_state_change(now, shared);
    }

    /// Whether the peer is enabled: it has a session or tries to get one.
    pub(super) fn is_enabled(&self) -> bool {
        self.dialer.is_enabled()
    }

    /// Applies a changed configuration that needs no new session.
    pub(super) fn adjust(&mut self, now: Instant, config: PeerConfig, shared: &mut Shared) {
        let passive_changed = config.dials() != self.config.dials();
        if self.config != config {
            self.note(now, JournalEvent::Configured { reset: false });
            self.fallback.reset();
        }
        let old = std::mem::replace(&mut self.config, config);
        for connection in self.slots.iter_mut() {
            connection.set_send_hold_time(self.config.timers.send_hold_time);
        }
        self.request_bfd(now, shared);
        let rekeyed = self.rekey(&old, shared);
        if passive_changed || rekeyed {
            self.redial(now, passive_changed, shared);
        }
        // A session that waited for BFD may be established now.
        self.emit_state_change(now, shared);
    }

    /// Makes an attempt in progress again, or starts or ends dialling if that is what changed.
    fn redial(&mut self, now: Instant, passive_changed: bool, shared: &mut Shared) {
        if self.dialer.cancel(shared) {
            if self.config.dials().is_some() {
                self.start(now, shared);
            } else if self.slots.is_empty() {
                self.dialer.wait_for_peer();
            }
        } else if passive_changed && self.dialer.is_active() {
            self.start(now, shared);
        }
    }

    /// Gives a changed password to the present connections. Returns whether an attempt must be made
    /// again with it.
    fn rekey(&mut self, old: &PeerConfig, shared: &mut Shared) -> bool {
        let Some(password) = &self.config.transport.password else {
            return false;
        };
        if old.transport.password.as_ref() == Some(password) {
            return false;
        }
        for connection in self.slots.iter() {
            shared.outputs.push_back(Output::Rekey {
                connection: connection.id(),
                peer: self.config.name.clone(),
                remote: connection.ends().remote.ip(),
                password: password.clone(),
            });
        }
        self.dialer.attempt().is_some()
    }

    /// Applies a configuration that needs a new session, and starts one: at once, or after a short
    /// wait if there was one.
    pub(super) fn reconfigure(&mut self, now: Instant, config: PeerConfig, shared: &mut Shared) {
        let reset = self.is_enabled();
        self.dialer.reset(shared);
        let old = std::mem::replace(&mut self.config, config);
        self.note(now, JournalEvent::Configured { reset });
        self.fallback.reset();
        let subcode = if is_same_neighbor(&old, &self.config) {
            subcode::cease::OTHER_CONFIGURATION_CHANGE
        } else {
            // The router must not wait for the old neighbor: it will not return.
            subcode::cease::PEER_DE_CONFIGURED
        };
        self.end_all(now, &Notification::cease(subcode), shared);
        // The router needs a moment to close the old session, but may dial at once.
        if self.config.dials().is_some() && self.dialer.accept_while_waiting() {
            self.emit_state_change(now, shared);
        } else {
            self.start(now, shared);
        }
    }

    /// Ends the peer for good. If one of its name is configured again, its journal continues.
    pub(super) fn remove(mut self, now: Instant, notification: &Notification, shared: &mut Shared) {
        self.stop(now, notification, shared);
        shared.journalled = shared.journalled.max(self.history.latest_number());
        shared.rib.remove_peer(self.index);
    }

    /// Ends all connections and disables the peer (RFC 4271 §8.1.2, event 2, ManualStop).
    fn stop(&mut self, now: Instant, notification: &Notification, shared: &mut Shared) {
        self.dialer.disable(shared);
        self.bfd.remove(&self.config, shared);
        self.end_all(now, notification, shared);
        self.emit_state_change(now, shared);
    }

    /// The configuration cannot be applied.
    pub(super) fn unusable(&mut self, now: Instant, reason: String, shared: &mut Shared) {
        let notification = Notification::cease(subcode::cease::OUT_OF_RESOURCES);
        self.stop(now, &notification, shared);
        self.down(now, Cause::Unusable { reason }, false, None, shared);
    }

    /// This configuration cannot be applied: it conflicts with that of another peer.
    pub(super) fn conflict(
        &mut self,
        now: Instant,
        config: PeerConfig,
        reason: String,
        shared: &mut Shared,
    ) {
        self.unusable(now, reason, shared);
        self.config = config;
    }

    pub(super) fn timeout(&mut self, now: Instant, shared: &mut Shared) {
        match self.dialer.expired(now) {
            Some(Expiry::Start) => self.start(now, shared),
            Some(Expiry::TimedOut(connection)) => {
                let error = IoFailure {
                    kind: io::ErrorKind::TimedOut,
                    text: format!("no answer within {} s", CONNECT_TIME.as_secs()),
                };
                self.connect_failed(now, connection, error, shared);
            }
            None => {}
        }
        self.detect_stall(now);
        for id in self.slots.ids() {
            while let Some(connection) = self.slots.get(id) {
                let Some(timer) = connection.expired(now) else {
                    break;
                };
                let effect = connection.expire(now, timer, &mut shared.rng);
                self.apply(now, id, effect, shared);
            }
        }
        self.end_if_flushed(now, shared);
        self.emit_state_change(now, shared);
    }

    fn detect_stall(&mut self, now: Instant) {
        let timers = self.slots.iter().flat_map(Connection::timers);
        self.stall.check(now, timers.map(|(_, at)| at).min());
    }

    /// The running timers that belong to no connection.
    fn peer_timers(&self) -> impl Iterator<Item = (Timer, Instant)> {
        let removal = self.removed_at().map(|at| (Timer::DynamicIdle, at));
        self.dialer.timer().into_iter().chain(removal)
    }

    /// When the first timer expires.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let connections = self.slots.iter().flat_map(Connection::timers);
        self.peer_timers()
            .chain(connections)
            .map(|(_, at)| at)
            .min()
    }

    /// When a dynamic neighbor without a connection is removed.
    pub(super) fn removed_at(&self) -> Option<Instant> {
        let idle = self.template.is_some() && self.state == State::Active;
        idle.then(|| self.since + DYNAMIC_KEPT)
    }

    pub(super) fn note(&mut self, now: Instant, event: JournalEvent) {
        self.history.note(now, event);
    }

    /// Reports a change of the state. Every input ends with it.
    fn emit_state_change(&mut self, now: Instant, shared: &mut Shared) {
        let connection = self.slots.best().map(Connection::state);
        let to = connection.unwrap_or_else(|| self.dialer.state());
        if to == self.state {
            return;
        }
        let from = std::mem::replace(&mut self.state, to);
        self.since = now;
        if from.max(to) > State::Connect {
            self.note(now, JournalEvent::State { from, to });
        }
        let peer = self.config.name.clone();
        shared.emit(Event::StateChanged { peer, from, to });
    }

    /// The speaker shuts down: no new connections, and on the session what is still to be sent.
    pub(super) fn begin_shutdown(&mut self, now: Instant, mode: ShutdownMode, shared: &mut Shared) {
        self.dialer.disable(shared);
        let established = self.slots.established().map(Connection::id);
        let restarts = self.slots.best().is_some_and(Connection::peer_keeps_routes);
        let mode = self
            .shutdown
            .begin(mode, &self.config, established.is_some(), restarts);
        if mode == ShutdownMode::Withdraw {
            shared.rib.withdraw_all(self.index);
        }
        for id in self.slots.ids() {
            if Some(id) != established {
                let ending = self.shutdown_ending(shared);
                self.end(now, id, ending, shared);
            }
        }
        self.emit_state_change(now, shared);
    }

    /// During a shutdown, ends the session if everything is sent.
    pub(super) fn end_if_flushed(&mut self, now: Instant, shared: &mut Shared) {
        if self.shutdown.in_progress() && !shared.rib.pending(self.index) {
            self.end_now(now, shared);
        }
    }

    /// Ends the session for the shutdown, even if UPDATEs are unsent.
    pub(super) fn end_now(&mut self, now: Instant, shared: &mut Shared) {
        for id in self.slots.ids() {
            let ending = self.shutdown_ending(shared);
            self.end(now, id, ending, shared);
        }
        self.emit_state_change(now, shared);
    }

    fn shutdown_ending(&self, shared: &Shared) -> Ending {
        let notification = self
            .shutdown
            .notification(&self.config, shared.shutdown_text());
        notification.map_or(Ending::GracefulRestart, Ending::Notify)
    }

    /// Whether to track which of our prefixes the router reaches over another speaker. The router
    /// is asked for its routes again: what it sent earlier is unknown.
    pub(super) fn track_other_paths(&mut self, tracked: bool) {
        self.other_paths.track(tracked);
        for connection in self.slots.iter_mut().filter(|_| tracked) {
            connection.request_refresh();
        }
    }

    /// This prefix is no longer announced.
    pub(super) fn withdrawn(&mut self, prefix: &IpNet) {
        self.other_paths.remove(prefix);
    }

    /// What the router shows of paths other than ours; `None` without a session.
    pub(super) fn other_paths(&self) -> Option<OtherPaths> {
        let agreement = self.slots.established()?.agreement()?;
        Some(OtherPaths {
            peer: self.config.name.clone(),
            template: self.template.as_ref().map(|of| of.name.clone()),
            shown: if agreement.route_refresh {
                self.other_paths.exported().to_vec()
            } else {
                Vec::new()
            },
            prefixes: self.other_paths.elsewhere().clone(),
        })
    }
}

/// Whether both configurations describe the same neighbor to the router, so that a new session
/// replaces the old one. Ports don't count: routers identify neighbors by address.
fn is_same_neighbor(old: &PeerConfig, new: &PeerConfig) -> bool {
    old.remote.network() == new.remote.network()
        && old.transport.source_address == new.transport.source_address
        && old.local_asn == new.local_asn
}
