//! A BGP-4 speaker for programs that announce routes: many peers, one set of routes, no routing
//! table. It checks and counts the routes that peers announce, but doesn't select or install them.
//!
//! # Structure
//!
//! * [`wire`]: the codec. It decodes and encodes messages, and combines two OPENs into an
//!   [`Agreement`](wire::Agreement).
//! * [`config`]: the configuration of a peer, its limits, and the effect of changes.
//! * [`rib`]: the Adj-RIBs-Out. It stores the routes to announce and what each peer has received,
//!   and packs the difference into UPDATEs.
//! * [`fsm`]: the state machine of the speaker (RFC 4271 §8): peers, their connections, timers,
//!   collisions, graceful restart, shutdown.
//! * [`bfd`]: the state machine of BFD (RFC 5880). The BGP state machine tears down sessions whose
//!   path fails.
//! * [`capture`]: messages of sessions as MRT records and as a pcap file.
//! * [`bmp`]: messages to a monitoring station (RFC 7854, RFC 8671).
//! * `speaker` (feature `speaker`): the only part with I/O. One thread with a tokio loop moves
//!   octets between sockets and the state machine of BGP, a second one does so for BFD.
//!
//! Except for `speaker`, the crate has no I/O and reads no clock: time is an argument. Randomness
//! (jitter) comes from a seed, so a recorded run replays to the octet. Hash tables with keys that
//! peers choose are randomized, but no output depends on their order.
//!
//! # The poll contract
//!
//! The caller drives [`fsm::Speaker`], one input at a time:
//!
//! 1. Call [`handle(now, input)`](fsm::Speaker::handle) with one input. `now` never decreases.
//! 2. Drain [`poll_output`](fsm::Speaker::poll_output): it returns orders for the driver
//!    (such as to dial or close a connection) and events.
//! 3. Call [`poll_transmit`](fsm::Speaker::poll_transmit) when a socket is writable, and drain
//!    `poll_output` again. UPDATEs are built at that moment from the latest routes. A peer that
//!    doesn't read therefore needs no queue, and a route that was changed again is sent once.
//! 4. Call `handle` with [`Input::Timeout`](fsm::Input::Timeout) at the time that
//!    [`poll_timeout`](fsm::Speaker::poll_timeout) returns. An early timeout has no effect. Read
//!    the sockets before a timeout, so that a busy host doesn't declare the hold timer of a live
//!    peer expired.
//!
//! # Usage
//!
//! `speaker::spawn` starts the threads and returns a `Handle` to configure peers and routes. The
//! speaker sends no routes and no End-of-RIB before `Handle::open_gate`: call it when the first set
//! of routes is complete. The README has a minimal speaker. Examples:
//!
//! * `announce` announces prefixes to a router until Ctrl-C;
//! * `sink` accepts sessions and counts the received routes, with [`wire`] and plain sockets.
//!
//! # Supported RFCs
//!
//! BGP:
//!
//! * RFC 4271: messages and errors (§4, §6) in [`wire`], with the error handling of RFC 7606 (§2 to
//!   §7; `docs/bgp-errors.md`); the state machine and collisions (§8, §6.8) in [`fsm`]. The
//!   decision process (§9.1) is out of scope, except for the loop check (§9.1.2).
//! * RFC 1997, 4360, 5668, 5701, 8092: communities of all kinds; RFC 10005: link bandwidth.
//! * RFC 2385 (TCP MD5) and RFC 5082 (GTSM) in `speaker`.
//! * RFC 2545: IPv6 next hops, with a link-local one on the same link (§3), in
//!   [`config::NextHops`].
//! * RFC 2918 and 7313: route refresh on request of the peer, between markers; markers of the
//!   peer are accepted and ignored.
//! * RFC 4486 (§4), 6608 (§3), 9384: subcodes of Cease and FSM errors, the prefix limit included.
//! * RFC 4724 and 8538: graceful restart as the restarting speaker (RFC 4724 §4.1), replacement of
//!   a session by a new connection (§4.2), End-of-RIB (§2), Hard Reset (RFC 8538 §3.1). The routes
//!   of restarting peers are not preserved, because received routes are not stored.
//! * RFC 4760: IPv4 and IPv6 unicast; RFC 8950: IPv4 routes with IPv6 next hops.
//! * RFC 5492 (capabilities, §3 to §5), with a retry without the rejected ones in [`fsm`];
//!   RFC 9072: extended optional parameters.
//! * RFC 6286: router IDs that are unique per AS (§2.1 to §2.3).
//! * RFC 6793: four-octet AS numbers, also with two-octet peers (§4.2); RFC 7607: AS 0.
//! * RFC 8654: extended messages (§4, §6).
//! * RFC 9003: shutdown messages (§2).
//! * RFC 9687: the send hold timer (§4).
//! * RFC 9774: AS_SETs are treated as withdraw (§3).
//!
//! Monitoring:
//!
//! * RFC 6396: MRT records of messages (BGP4MP_ET) in [`capture`];
//! * RFC 7854, RFC 8671: BMP with the Adj-RIB-Out in [`bmp`].
//!
//! BFD, in [`bfd`] and `speaker`:
//!
//! * RFC 5880: asynchronous mode, without authentication and without sending Echo packets; a peer's
//!   Demand mode (§6.8.6, §6.8.7).
//! * RFC 5881: single hop; RFC 5883: multihop; RFC 5882: interaction with BGP (§4), graceful
//!   restart included.
//!
//! Never offered: ADD-PATH (RFC 7911), confederations (RFC 5065), route reflection (RFC 4456),
//! roles (RFC 9234), long-lived graceful restart (RFC 9494).

pub mod bfd;
pub mod bmp;
pub mod capture;
pub mod config;
pub mod fsm;
pub mod rib;
#[cfg(feature = "serde")]
mod seconds;
#[cfg(feature = "speaker")]
pub mod speaker;
pub mod wire;

/// Compiles the README's program as a doc test.
#[cfg(all(doctest, feature = "speaker"))]
#[doc = include_str!("../README.md")]
struct Readme;
