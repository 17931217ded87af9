//! One TCP connection that carries BGP: OpenSent, OpenConfirm, Established.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::PeerConfig;
use crate::fsm::events::{ConnectionId, State};
use crate::fsm::history::status::{MessageCounters, SessionTimers};
use crate::fsm::negotiate::{negotiate, our_open};
use crate::fsm::peer::capability_fallback::Refusals;
use crate::fsm::timers::{earlier, jittered, send_hold};
use crate::rib::SessionEncoding;
use crate::wire::{
    Agreement, DecodeContext, EncodeContext, ErrorCode, Family, Framer, GracefulRestartCapability,
    MAX_LENGTH, Message, MessageType, NextHop, Notification, Open, RouteRefresh, Update, keepalive,
    subcode,
};

/// How long we wait for the peer's OPEN (RFC 4271 §8.2.2 suggests four minutes).
const LARGE_HOLD_TIME: Duration = Duration::from_secs(240);
/// How long a session with hold time 0 may take to come up. Once it is up no timer watches over it.
const HELD_WITHOUT_HOLD_TIME: Duration = Duration::from_secs(90);

/// What runs in the session's three states, owned by the state it exists in.
#[derive(Debug)]
enum Phase {
    /// Our OPEN is out.
    OpenSent { hold: Instant },
    /// OPENs match; our KEEPALIVE is out or due.
    OpenConfirm(Session),
    /// Up.
    Established {
        session: Session,
        since: Instant,
        send_hold: Option<Instant>,
    },
}

/// What both OPENs made, and the two timers that watch over it.
#[derive(Debug)]
struct Session {
    negotiated: Agreement,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
}

/// One connection in one of a peer's two slots.
#[derive(Debug)]
pub(in crate::fsm) struct Connection {
    pub(in crate::fsm) id: ConnectionId,
    pub(in crate::fsm) ends: Ends,
    /// When TCP came up.
    pub(in crate::fsm) opened: Instant,
    /// What we said of ourselves.
    pub(in crate::fsm) open: Open,
    framer: Framer,
    context: DecodeContext,
    /// Whole messages that go before anything else: our OPEN.
    queue: VecDeque<Bytes>,
    /// A KEEPALIVE is to be sent as soon as the socket takes it. One bit: a peer that doesn't read
    /// doesn't pile them up.
    keepalive_due: bool,
    /// Families that the peer is to be asked for again, each once.
    wanted: Vec<Family>,
    /// OPENs may be exchanged, but no session comes up yet: our KEEPALIVE is withheld.
    pub(in crate::fsm) held: bool,
    /// The peer's KEEPALIVE came meanwhile.
    confirmed: bool,
    /// How long the peer may not read; `None`: what RFC 9687 suggests.
    pub(in crate::fsm) send_hold_time: Option<Duration>,
    phase: Phase,
}

/// What arrived: a message, or something that is none, with the answer to it.
pub(in crate::fsm) type Arrival = Result<Message, Notification>;

/// A timer of a connection that has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fsm) enum Expired {
    Hold,
    Keepalive,
    SendHold,
}

/// What the peer's side of the machine has to do about it.
#[derive(Debug)]
pub(in crate::fsm) enum Effect {
    /// Nothing more.
    None,
    /// The OPEN was good: look for a collision.
    Opened,
    /// The session is up.
    Established,
    /// An UPDATE came.
    Update(Box<Update>),
    /// The peer wants a family again.
    Refresh(Family),
    /// Send this and end the connection.
    Notify(Notification),
    /// The peer ended it with this.
    Notified(Notification),
    /// The peer doesn't read; nothing can be sent any more.
    Stuck,
}

/// The ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fsm) struct Ends {
    pub(in crate::fsm) local: SocketAddr,
    pub(in crate::fsm) remote: SocketAddr,
}

impl Connection {
    /// TCP is up: our OPEN goes out (RFC 4271 §8.2.2, events 16 and 17).
    pub(in crate::fsm) fn new(
        now: Instant,
        id: ConnectionId,
        ends: Ends,
        config: &PeerConfig,
        fallback: Ipv4Addr,
        restart: Option<GracefulRestartCapability>,
        refusals: &Refusals,
    ) -> Self {
        let ends = ends.canonical();
        let local = ends.local;
        let router_id = config.router_id.unwrap_or(fallback);
        let open = refusals.without(our_open(config, router_id, local.is_ipv6(), restart));
        Self {
            id,
            ends,
            opened: now,
            queue: VecDeque::from([open.encode()]),
            open,
            framer: Framer::default(),
            context: DecodeContext {
                loopback: local.ip().is_loopback(),
                ..DecodeContext::default()
            },
            keepalive_due: false,
            wanted: Vec::new(),
            held: false,
            confirmed: false,
            send_hold_time: config.timers.send_hold_time,
            phase: Phase::OpenSent {
                hold: now + LARGE_HOLD_TIME,
            },
        }
    }

    pub(in crate::fsm) fn state(&self) -> State {
        match self.phase {
            Phase::OpenSent { .. } => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established { .. } => State::Established,
        }
    }

    pub(in crate::fsm) fn negotiated(&self) -> Option<&Agreement> {
        match &self.phase {
            Phase::OpenSent { .. } => None,
            Phase::OpenConfirm(session) | Phase::Established { session, .. } => {
                Some(&session.negotiated)
            }
        }
    }

    /// Whether the peer keeps our routes if the connection ends without a NOTIFICATION.
    pub(in crate::fsm) fn peer_keeps_routes(&self) -> bool {
        self.negotiated()
            .is_some_and(|negotiated| negotiated.graceful_restart.is_some())
    }

    /// Since when the session is up.
    pub(in crate::fsm) fn established_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Established { since, .. } => Some(since),
            _ => None,
        }
    }

    /// What is left of the timers.
    pub(in crate::fsm) fn timers(&self, now: Instant) -> SessionTimers {
        let left = |at: &Option<Instant>| at.map(|at| at.saturating_duration_since(now));
        match &self.phase {
            Phase::OpenSent { hold } => SessionTimers {
                hold: left(&Some(*hold)),
                ..SessionTimers::default()
            },
            Phase::OpenConfirm(session) => SessionTimers {
                hold: left(&session.hold),
                keepalive: left(&session.keepalive),
                send_hold: None,
            },
            Phase::Established {
                session, send_hold, ..
            } => SessionTimers {
                hold: left(&session.hold),
                keepalive: left(&session.keepalive),
                send_hold: left(send_hold),
            },
        }
    }

    pub(in crate::fsm) fn push(&mut self, octets: &[u8]) {
        self.framer.push(octets);
    }

    /// The next whole message of what was pushed, or what is wrong with it.
    pub(in crate::fsm) fn next(&mut self) -> Option<Arrival> {
        let message = self.framer.next(&self.context)?;
        Some(message.map_err(|error| error.notification()))
    }

    /// The one dispatch on (state, message).
    pub(in crate::fsm) fn step(
        &mut self,
        now: Instant,
        arrival: Arrival,
        config: &PeerConfig,
        rng: &mut fastrand::Rng,
    ) -> Effect {
        match (&mut self.phase, arrival) {
            // Never answered, whatever the state (RFC 4271 §6: not even a malformed one).
            (_, Ok(Message::Notification(notification))) => Effect::Notified(notification),
            (_, Err(notification)) => Effect::Notify(self.blame(notification)),

            (Phase::OpenSent { .. }, Ok(Message::Open(open))) => {
                match negotiate(&open, &self.open, config) {
                    Ok(negotiated) => self.confirm(now, negotiated, rng),
                    Err(notification) => Effect::Notify(notification),
                }
            }
            (Phase::OpenConfirm(_), Ok(Message::Keepalive)) if self.held => {
                // Not heard: the hold time bounds the wait.
                self.confirmed = true;
                Effect::None
            }
            (Phase::OpenConfirm(_), Ok(Message::Keepalive)) => self.establish(now),
            (Phase::Established { session, .. }, Ok(Message::Keepalive)) => {
                session.heard(now);
                Effect::None
            }
            (Phase::Established { session, .. }, Ok(Message::Update(update))) => {
                session.heard(now);
                Effect::Update(Box::new(update))
            }
            (Phase::Established { session, .. }, Ok(Message::RouteRefresh(refresh))) => {
                session.heard(now);
                // Where the peer's own routes begin and end again means nothing: they aren't kept.
                let asked = refresh.subtype == RouteRefresh::REQUEST
                    && session.negotiated.families.contains(&refresh.family);
                if asked {
                    Effect::Refresh(refresh.family)
                } else {
                    Effect::None
                }
            }
            // RFC 6608: everything else is out of place.
            (_, Ok(message)) => Effect::Notify(self.out_of_place(message.kind())),
        }
    }

    /// The one dispatch on (state, timer).
    pub(in crate::fsm) fn expire(
        &mut self,
        now: Instant,
        expired: Expired,
        rng: &mut fastrand::Rng,
    ) -> Effect {
        match (&mut self.phase, expired) {
            (Phase::OpenConfirm(_), Expired::Hold) if self.held => {
                Effect::Notify(Notification::cease(subcode::cease::BFD_DOWN))
            }
            (_, Expired::Hold) => Effect::Notify(Notification::hold_timer_expired()),
            (Phase::OpenSent { .. }, Expired::Keepalive | Expired::SendHold) => Effect::None,
            (Phase::OpenConfirm(session), Expired::Keepalive)
            | (Phase::Established { session, .. }, Expired::Keepalive) => {
                session.told(now, rng);
                self.keepalive_due = true;
                Effect::None
            }
            (Phase::OpenConfirm(_), Expired::SendHold) => Effect::None,
            (Phase::Established { .. }, Expired::SendHold) => Effect::Stuck,
        }
    }

    /// The timers whose time has come, the gravest first.
    pub(in crate::fsm) fn expired(&self, now: Instant) -> Option<Expired> {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        match &self.phase {
            Phase::OpenSent { hold } => (*hold <= now).then_some(Expired::Hold),
            Phase::OpenConfirm(session) => session.expired(now),
            Phase::Established { send_hold, .. } if due(*send_hold) => Some(Expired::SendHold),
            Phase::Established { session, .. } => session.expired(now),
        }
    }

    pub(in crate::fsm) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::OpenSent { hold } => Some(*hold),
            Phase::OpenConfirm(session) => session.deadline(),
            Phase::Established {
                session, send_hold, ..
            } => earlier(session.deadline(), *send_hold),
        }
    }

    /// OPEN and KEEPALIVE, which go before any UPDATE.
    pub(in crate::fsm) fn transmit(
        &mut self,
        now: Instant,
        counters: &mut MessageCounters,
        rng: &mut fastrand::Rng,
    ) -> Option<Bytes> {
        if let Some(octets) = self.queue.pop_front() {
            counters.open += 1;
            return Some(octets);
        }
        if !std::mem::take(&mut self.keepalive_due) {
            return None;
        }
        counters.keepalive += 1;
        self.transmitted(now, rng);
        Some(keepalive())
    }

    /// A KEEPALIVE or UPDATE was taken: the peer will hear from us (RFC 4271 §4.4), and it reads.
    pub(in crate::fsm) fn transmitted(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        let wish = self.send_hold_time;
        match &mut self.phase {
            Phase::OpenSent { .. } => {}
            Phase::OpenConfirm(session) => session.told(now, rng),
            Phase::Established {
                session, send_hold, ..
            } => {
                session.told(now, rng);
                *send_hold = send_hold_time(&session.negotiated, wish).map(|time| now + time);
            }
        }
    }

    /// The peer is to send all its routes again (RFC 2918 §4), if it can. Before the session is
    /// Established there is nothing to ask for: it begins with all of them.
    pub(in crate::fsm) fn want_again(&mut self) {
        if let Phase::Established { session, .. } = &self.phase
            && session.negotiated.route_refresh
        {
            self.wanted.clone_from(&session.negotiated.families);
        }
    }

    /// A request that is still to be sent, if there is one.
    pub(in crate::fsm) fn ask_again(&mut self, counters: &mut MessageCounters) -> Option<Bytes> {
        let family = self.wanted.pop()?;
        counters.route_refresh += 1;
        let subtype = RouteRefresh::REQUEST;
        Some(RouteRefresh { family, subtype }.encode())
    }

    /// What was meant to go out before the end: nothing but an OPEN that is still due.
    pub(in crate::fsm) fn into_queue(self) -> VecDeque<Bytes> {
        self.queue
    }

    /// Our own addresses, as far as they matter to the peer: where it may send packets to us.
    pub(in crate::fsm) fn own_addresses(&self, config: &PeerConfig) -> Vec<IpAddr> {
        let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        let next_hops = families.map(|family| self.next_hop(config, family));
        let next_hops = next_hops.iter().flatten().map(NextHop::address);
        next_hops.chain([self.ends.local.ip()]).collect()
    }

    fn next_hop(&self, config: &PeerConfig, family: Family) -> Option<NextHop> {
        let ipv4_over_ipv6 = self.negotiated().is_some_and(|n| n.ipv4_next_hop_v6);
        config.next_hop(family, Some(self.ends.local.ip()), ipv4_over_ipv6)
    }

    /// The longest message that the peer takes, in octets.
    pub(in crate::fsm) fn max_length_to_peer(&self) -> usize {
        let negotiated = self.negotiated();
        negotiated.map_or(MAX_LENGTH, |n| n.encode_context().max_length)
    }

    /// How UPDATEs for this session are to be encoded.
    pub(in crate::fsm) fn encoding(&self, config: &PeerConfig) -> Option<SessionEncoding> {
        let negotiated = self.negotiated()?;
        let EncodeContext {
            four_octet_asn,
            max_length,
        } = negotiated.encode_context();
        Some(SessionEncoding {
            families: negotiated.families.clone(),
            ebgp: (!negotiated.ibgp).then_some(config.local_asn),
            four_octet_asn,
            max_length,
            ipv4_next_hop: self.next_hop(config, Family::IPV4_UNICAST),
            ipv6_next_hop: self.next_hop(config, Family::IPV6_UNICAST),
            enhanced_route_refresh: negotiated.enhanced_route_refresh,
        })
    }

    fn confirm(&mut self, now: Instant, negotiated: Agreement, rng: &mut fastrand::Rng) -> Effect {
        self.context = DecodeContext {
            loopback: self.context.loopback,
            ..negotiated.decode_context()
        };
        let mut session = Session {
            negotiated,
            hold: None,
            keepalive: None,
        };
        session.heard(now);
        session.hold.get_or_insert(now + HELD_WITHOUT_HOLD_TIME);
        if !self.held {
            session.told(now, rng);
        }
        self.keepalive_due = !self.held;
        self.phase = Phase::OpenConfirm(session);
        Effect::Opened
    }

    /// Nothing holds the session back any more.
    pub(in crate::fsm) fn release(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Effect {
        if !std::mem::take(&mut self.held) {
            return Effect::None;
        }
        let Phase::OpenConfirm(session) = &mut self.phase else {
            return Effect::None;
        };
        session.heard(now);
        session.hold.get_or_insert(now + HELD_WITHOUT_HOLD_TIME);
        session.told(now, rng);
        self.keepalive_due = true;
        if std::mem::take(&mut self.confirmed) {
            self.establish(now)
        } else {
            Effect::None
        }
    }

    fn establish(&mut self, now: Instant) -> Effect {
        let wish = self.send_hold_time;
        let placeholder = Phase::OpenSent { hold: now };
        self.phase = match std::mem::replace(&mut self.phase, placeholder) {
            Phase::OpenConfirm(mut session) => {
                session.heard(now);
                let send_hold = send_hold_time(&session.negotiated, wish).map(|time| now + time);
                Phase::Established {
                    session,
                    since: now,
                    send_hold,
                }
            }
            other => other,
        };
        Effect::Established
    }

    /// The NOTIFICATION for a message that doesn't decode: its own, unless the message had no
    /// business in this state in the first place (RFC 4271 §8.2.2, events 22 and 28).
    fn blame(&self, notification: Notification) -> Notification {
        let (kind, expected) = match notification.code {
            ErrorCode::OPEN => (MessageType::OPEN, State::OpenSent),
            ErrorCode::UPDATE => (MessageType::UPDATE, State::Established),
            ErrorCode::ROUTE_REFRESH => (MessageType::ROUTE_REFRESH, State::Established),
            _ => return notification,
        };
        if self.state() == expected {
            notification
        } else {
            self.out_of_place(kind)
        }
    }

    fn out_of_place(&self, kind: MessageType) -> Notification {
        let subcode = match self.phase {
            Phase::OpenSent { .. } => subcode::fsm::UNEXPECTED_MESSAGE_IN_OPEN_SENT,
            Phase::OpenConfirm(_) => subcode::fsm::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM,
            Phase::Established { .. } => subcode::fsm::UNEXPECTED_MESSAGE_IN_ESTABLISHED,
        };
        Notification::unexpected_message(subcode, kind)
    }
}

impl Session {
    fn heard(&mut self, now: Instant) {
        self.hold = self.negotiated.hold_time.duration().map(|hold| now + hold);
    }

    fn told(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.keepalive = self
            .negotiated
            .keepalive_time
            .map(|time| now + jittered(time, rng));
    }

    fn expired(&self, now: Instant) -> Option<Expired> {
        if self.hold.is_some_and(|at| at <= now) {
            return Some(Expired::Hold);
        }
        self.keepalive
            .is_some_and(|at| at <= now)
            .then_some(Expired::Keepalive)
    }

    fn deadline(&self) -> Option<Instant> {
        earlier(self.hold, self.keepalive)
    }
}

/// RFC 9687 §4: none without a hold time.
fn send_hold_time(negotiated: &Agreement, wish: Option<Duration>) -> Option<Duration> {
    negotiated.hold_time.duration()?;
    Some(send_hold(negotiated.hold_time, wish))
}
