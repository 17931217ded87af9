//! One TCP connection that carries BGP: the states OpenSent, OpenConfirm and Established of
//! RFC 4271 §8.2.2, and their timers: `expire` decides what an expired timer means.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::PeerConfig;
use crate::fsm::negotiate::negotiate;
use crate::fsm::state::State;
use crate::fsm::tcp::ConnectionId;
use crate::fsm::tcp::SocketPair;
use crate::fsm::timers::{Timer, TimerTable, jittered, send_hold};
use crate::rib::SessionEncoding;
use crate::wire::{
    Agreement, DecodeContext, EncodeContext, ErrorCode, Family, Framer, HEADER_LENGTH, MAX_LENGTH,
    Message, MessageType, NextHop, Notification, Open, RouteRefresh, Update, keepalive, subcode,
};

/// How long to wait for the peer's OPEN (RFC 4271 §8.2.2 suggests four minutes).
const LARGE_HOLD_TIME: Duration = Duration::from_secs(240);
/// How long a session with hold time zero may take to be established. Once it is, no hold timer
/// runs.
const OPEN_CONFIRM_TIME: Duration = Duration::from_secs(90);

/// The state of the connection, with what exists only in that state.
#[derive(Debug)]
enum Phase {
    /// Our OPEN is sent or queued.
    OpenSent,
    /// The OPENs agree; our KEEPALIVE is sent or due.
    OpenConfirm(Agreement),
    Established {
        agreement: Agreement,
        since: Instant,
    },
}

/// One connection in one of the slots of a peer.
#[derive(Debug)]
pub(super) struct Connection {
    id: ConnectionId,
    ends: SocketPair,
    /// When TCP was established.
    opened: Instant,
    /// Our OPEN.
    open: Open,
    framer: Framer,
    /// The peer's OPEN as received.
    remote_open: Option<Bytes>,
    context: DecodeContext,
    /// Whole messages that are sent before any other: our OPEN.
    queue: VecDeque<Bytes>,
    /// A KEEPALIVE is sent as soon as the socket takes it. One flag, not a queue: a peer that does
    /// not read must not make them pile up.
    keepalive_due: bool,
    /// Families for which a ROUTE-REFRESH is still to be sent.
    refreshes: Vec<Family>,
    /// OPENs are exchanged, but our KEEPALIVE is withheld until BFD is up (strict mode).
    waits_for_bfd: bool,
    /// The peer's KEEPALIVE came in that time.
    confirmed: bool,
    /// The configured send hold time; `None`: the one that RFC 9687 suggests.
    send_hold_time: Option<Duration>,
    timers: TimerTable,
    phase: Phase,
}

/// A received message, or the NOTIFICATION for octets that are none.
pub(super) type Arrival = Result<Message, Notification>;

/// What a message or timer means for the peer.
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing more.
    None,
    /// The peer's OPEN is acceptable: look for a collision.
    Opened,
    /// The session is established.
    Established,
    /// An UPDATE was received.
    Update(Box<Update>),
    /// The peer requests all routes of a family.
    Refresh(Family),
    /// Send this and close.
    Notify(Notification),
    /// The peer sent this and closes.
    Notified(Notification),
    /// The peer does not read: close without a NOTIFICATION (RFC 9687 §3).
    SendHoldTimerExpired,
}

impl Connection {
    /// TCP is established: sends our OPEN (RFC 4271 §8.2.2, events 16 and 17).
    pub(super) fn new(
        now: Instant,
        id: ConnectionId,
        ends: SocketPair,
        open: Open,
        send_hold_time: Option<Duration>,
    ) -> Self {
        let mut timers = TimerTable::default();
        timers.set(Timer::Hold, Some(now + LARGE_HOLD_TIME));
        Self {
            id,
            ends,
            opened: now,
            queue: VecDeque::from([open.encode()]),
            open,
            framer: Framer::default(),
            remote_open: None,
            context: DecodeContext {
                loopback: ends.local.ip().is_loopback(),
                ..DecodeContext::default()
            },
            keepalive_due: false,
            refreshes: Vec::new(),
            waits_for_bfd: false,
            confirmed: false,
            send_hold_time,
            timers,
            phase: Phase::OpenSent,
        }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn ends(&self) -> SocketPair {
        self.ends
    }

    /// When TCP was established.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// The peer's OPEN as received.
    pub(super) fn remote_open(&self) -> Option<&Bytes> {
        self.remote_open.as_ref()
    }

    /// Our OPEN.
    pub(super) fn open(&self) -> &Open {
        &self.open
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::OpenSent => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established { .. } => State::Established,
        }
    }

    /// What the OPENs settled; `None` before the peer's OPEN.
    pub(super) fn agreement(&self) -> Option<&Agreement> {
        match &self.phase {
            Phase::OpenSent => None,
            Phase::OpenConfirm(agreement) | Phase::Established { agreement, .. } => Some(agreement),
        }
    }

    /// Whether the peer keeps our routes if the connection ends without a NOTIFICATION (RFC 4724).
    pub(super) fn peer_keeps_routes(&self) -> bool {
        self.agreement()
            .is_some_and(|agreement| agreement.graceful_restart.is_some())
    }

    /// Since when the session is established.
    pub(super) fn established_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Established { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Applies a changed configuration from the next message on.
    pub(super) fn set_send_hold_time(&mut self, time: Option<Duration>) {
        self.send_hold_time = time;
    }

    /// Whether to withhold the KEEPALIVE that confirms the peer's OPEN. Set before each
    /// [`step`](Self::step); [`release`](Self::release) ends it.
    pub(super) fn set_waits_for_bfd(&mut self, waits: bool) {
        self.waits_for_bfd = waits;
    }

    pub(super) fn push(&mut self, octets: &[u8]) {
        self.framer.push(octets);
    }

    /// The octets pushed that belong to no whole message yet.
    pub(super) fn incomplete(&self) -> &[u8] {
        self.framer.incomplete()
    }

    /// The next whole message of the octets pushed, or the NOTIFICATION for its error.
    pub(super) fn next(&mut self) -> Option<Arrival> {
        if self.remote_open.is_none() {
            self.remote_open = whole_open(self.framer.incomplete());
        }
        let message = self.framer.next(&self.context)?;
        Some(message.map_err(|error| error.notification()))
    }

    /// The one dispatch on (state, message).
    pub(super) fn step(
        &mut self,
        now: Instant,
        arrival: Arrival,
        config: &PeerConfig,
        rng: &mut fastrand::Rng,
    ) -> Effect {
        match (self.state(), arrival) {
            // A NOTIFICATION is never answered, in any state, not even a malformed one
            // (RFC 4271 §6.4).
            (_, Ok(Message::Notification(notification))) => Effect::Notified(notification),
            (_, Err(notification)) => Effect::Notify(self.message_error(notification)),

            (State::OpenSent, Ok(Message::Open(open))) => {
                match negotiate(&open, &self.open, config) {
                    Ok(agreement) => self.confirm(now, agreement, rng),
                    Err(notification) => Effect::Notify(notification),
                }
            }
            (State::OpenConfirm, Ok(Message::Keepalive)) if self.waits_for_bfd => {
                // The hold timer is not restarted: it bounds the wait for BFD.
                self.confirmed = true;
                Effect::None
            }
            (State::OpenConfirm, Ok(Message::Keepalive)) => self.establish(now),
            (State::Established, Ok(Message::Keepalive)) => {
                self.restart_hold_timer(now);
                Effect::None
            }
            (State::Established, Ok(Message::Update(update))) => {
                self.restart_hold_timer(now);
                Effect::Update(Box::new(update))
            }
            (State::Established, Ok(Message::RouteRefresh(refresh))) => {
                self.restart_hold_timer(now);
                let agreement = self.agreement();
                let known = agreement.is_some_and(|a| a.families.contains(&refresh.family));
                // The markers of RFC 7313 mean nothing: received routes are not kept.
                if known && refresh.subtype == RouteRefresh::REQUEST {
                    Effect::Refresh(refresh.family)
                } else {
                    Effect::None
                }
            }
            (_, Ok(message)) => Effect::Notify(self.fsm_error(message.kind())),
        }
    }

    /// What an expired timer of this connection causes.
    pub(super) fn expire(&mut self, now: Instant, timer: Timer, rng: &mut fastrand::Rng) -> Effect {
        match timer {
            Timer::Hold if self.state() == State::OpenConfirm && self.waits_for_bfd => {
                Effect::Notify(Notification::cease(subcode::cease::BFD_DOWN))
            }
            Timer::Hold => Effect::Notify(Notification::hold_timer_expired()),
            Timer::SendHold => Effect::SendHoldTimerExpired,
            Timer::Keepalive => {
                self.restart_keepalive_timer(now, rng);
                self.keepalive_due = true;
                Effect::None
            }
            // These don't run on a connection.
            Timer::ConnectRetry | Timer::IdleHold | Timer::DynamicIdle => Effect::None,
        }
    }

    /// The expired timer that is handled first.
    pub(super) fn expired(&self, now: Instant) -> Option<Timer> {
        self.timers.expired(now)
    }

    /// The running timers.
    pub(super) fn timers(&self) -> impl Iterator<Item = (Timer, Instant)> + use<> {
        self.timers.running()
    }

    /// An OPEN or KEEPALIVE to send, which go before any UPDATE.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<(MessageType, Bytes)> {
        if let Some(octets) = self.queue.pop_front() {
            return Some((MessageType::OPEN, octets));
        }
        if !std::mem::take(&mut self.keepalive_due) {
            return None;
        }
        self.transmitted(now, rng);
        Some((MessageType::KEEPALIVE, keepalive()))
    }

    /// The socket took a KEEPALIVE or UPDATE: the next KEEPALIVE is due later (RFC 4271 §4.4),
    /// and the peer reads (RFC 9687 §3).
    pub(super) fn transmitted(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.restart_keepalive_timer(now, rng);
        if let Phase::Established { .. } = self.phase {
            self.restart_send_hold_timer(now);
        }
    }

    /// Requests all routes of the peer again, if it supports that (RFC 2918 §4). A session that is
    /// not established yet begins with all of them.
    pub(super) fn request_refresh(&mut self) {
        if let Phase::Established { agreement, .. } = &self.phase
            && agreement.route_refresh
        {
            self.refreshes.clone_from(&agreement.families);
        }
    }

    /// A ROUTE-REFRESH to send.
    pub(super) fn transmit_refresh(&mut self) -> Option<Bytes> {
        let family = self.refreshes.pop()?;
        let subtype = RouteRefresh::REQUEST;
        Some(RouteRefresh { family, subtype }.encode())
    }

    /// What is still to be sent before the end: only an OPEN.
    pub(super) fn into_queue(self) -> VecDeque<Bytes> {
        self.queue
    }

    /// The addresses at which the peer may send packets to us.
    pub(super) fn own_addresses(&self, config: &PeerConfig) -> Vec<IpAddr> {
        let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        let next_hops = families.map(|family| self.next_hop(config, family));
        let next_hops = next_hops.iter().flatten().map(NextHop::address);
        next_hops.chain([self.ends.local.ip()]).collect()
    }

    fn next_hop(&self, config: &PeerConfig, family: Family) -> Option<NextHop> {
        let ipv4_over_ipv6 = self.agreement().is_some_and(|a| a.ipv4_next_hop_v6);
        config.next_hop(family, Some(self.ends.local.ip()), ipv4_over_ipv6)
    }

    /// The longest message that the peer accepts, in octets.
    pub(super) fn max_length_to_peer(&self) -> usize {
        let agreement = self.agreement();
        agreement.map_or(MAX_LENGTH, |a| a.encode_context().max_length)
    }

    /// How UPDATEs for this session are encoded.
    pub(super) fn encoding(&self, config: &PeerConfig) -> Option<SessionEncoding> {
        let agreement = self.agreement()?;
        let EncodeContext {
            four_octet_asn,
            max_length,
        } = agreement.encode_context();
        Some(SessionEncoding {
            families: agreement.families.clone(),
            ebgp: (!agreement.ibgp).then_some(config.local_asn),
            four_octet_asn,
            max_length,
            ipv4_next_hop: self.next_hop(config, Family::IPV4_UNICAST),
            ipv6_next_hop: self.next_hop(config, Family::IPV6_UNICAST),
            enhanced_route_refresh: agreement.enhanced_route_refresh,
        })
    }

    fn confirm(&mut self, now: Instant, agreement: Agreement, rng: &mut fastrand::Rng) -> Effect {
        self.context = DecodeContext {
            loopback: self.context.loopback,
            ..agreement.decode_context()
        };
        self.phase = Phase::OpenConfirm(agreement);
        self.start_open_confirm(now);
        if !self.waits_for_bfd {
            self.restart_keepalive_timer(now, rng);
        }
        self.keepalive_due = !self.waits_for_bfd;
        Effect::Opened
    }

    /// BFD no longer blocks the session: sends the KEEPALIVE that was withheld.
    pub(super) fn release(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Effect {
        let waited = std::mem::take(&mut self.waits_for_bfd);
        if !waited || self.state() != State::OpenConfirm {
            return Effect::None;
        }
        self.start_open_confirm(now);
        self.restart_keepalive_timer(now, rng);
        self.keepalive_due = true;
        if std::mem::take(&mut self.confirmed) {
            self.establish(now)
        } else {
            Effect::None
        }
    }

    fn establish(&mut self, now: Instant) -> Effect {
        self.phase = match std::mem::replace(&mut self.phase, Phase::OpenSent) {
            Phase::OpenConfirm(agreement) => Phase::Established {
                agreement,
                since: now,
            },
            other => other,
        };
        self.restart_hold_timer(now);
        self.restart_send_hold_timer(now);
        Effect::Established
    }

    /// The hold timer of OpenConfirm, which runs even if the session will have none.
    fn start_open_confirm(&mut self, now: Instant) {
        let time = self.hold_time().unwrap_or(OPEN_CONFIRM_TIME);
        self.timers.set(Timer::Hold, Some(now + time));
    }

    fn restart_hold_timer(&mut self, now: Instant) {
        let at = self.hold_time().map(|time| now + time);
        self.timers.set(Timer::Hold, at);
    }

    fn restart_keepalive_timer(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        let time = self.agreement().and_then(|a| a.keepalive_time);
        let at = time.map(|time| now + jittered(time, rng));
        self.timers.set(Timer::Keepalive, at);
    }

    /// Without a hold time there is no send hold time either (RFC 9687 §4).
    fn restart_send_hold_timer(&mut self, now: Instant) {
        let agreement = self
            .agreement()
            .filter(|a| a.hold_time.duration().is_some());
        let time = agreement.map(|a| send_hold(a.hold_time, self.send_hold_time));
        self.timers
            .set(Timer::SendHold, time.map(|time| now + time));
    }

    /// The agreed hold time; `None` if it is zero.
    fn hold_time(&self) -> Option<Duration> {
        self.agreement()?.hold_time.duration()
    }

    /// The NOTIFICATION for a malformed message: its own, or an FSM error if that type of message
    /// was not expected in this state (RFC 4271 §8.2.2, events 22 and 28).
    fn message_error(&self, notification: Notification) -> Notification {
        let (kind, expected) = match notification.code {
            ErrorCode::OPEN => (MessageType::OPEN, State::OpenSent),
            ErrorCode::UPDATE => (MessageType::UPDATE, State::Established),
            ErrorCode::ROUTE_REFRESH => (MessageType::ROUTE_REFRESH, State::Established),
            _ => return notification,
        };
        if self.state() == expected {
            notification
        } else {
            self.fsm_error(kind)
        }
    }

    /// The NOTIFICATION for a message that is not expected in this state (RFC 4271 §6.6, RFC 6608).
    fn fsm_error(&self, kind: MessageType) -> Notification {
        let subcode = match self.phase {
            Phase::OpenSent => subcode::fsm::UNEXPECTED_MESSAGE_IN_OPEN_SENT,
            Phase::OpenConfirm(_) => subcode::fsm::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM,
            Phase::Established { .. } => subcode::fsm::UNEXPECTED_MESSAGE_IN_ESTABLISHED,
        };
        Notification::unexpected_message(subcode, kind)
    }
}

/// The first message of these octets, if it is an OPEN and whole.
fn whole_open(octets: &[u8]) -> Option<Bytes> {
    let [high, low, kind] = *octets.get(16..HEADER_LENGTH)?.first_chunk::<3>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_open = kind == MessageType::OPEN.0 && length <= MAX_LENGTH;
    let open = octets.get(..length).filter(|_| is_open)?;
    Some(Bytes::copy_from_slice(open))
}
