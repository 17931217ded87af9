//! BGP-4 for programs that announce routes: one speaker, many peers, no routing table.
//!
//! # Layers
//!
//! * [`wire`] turns octets into messages and back. It knows every length rule and no session.
//! * [`rib`] holds what each peer should be told and how far each peer has been told it.
//! * [`fsm`] is the state machine of the whole speaker: peers, their two connection slots, timers,
//!   collisions, negotiation.
//! * [`bfd`] is a machine beside it that notices dead paths.
//! * `speaker` (feature `speaker`) is the one part with I/O: a small tokio loop on a thread of its
//!   own that carries octets between sockets and the state machine and knows no BGP, and another for
//!   BFD.
//!
//! All but the last never read a clock or a socket. Nothing they send depends on chance but through a
//! seed (hash tables are keyed at random against peers who choose what to send; no order comes from
//! them).
//!
//! # The poll contract
//!
//! [`fsm::Speaker`] is driven from outside, one input at a time:
//!
//! 1. [`handle(now, input)`](fsm::Speaker::handle) takes one thing that happened. `now` never goes
//!    back.
//! 2. [`poll_output`](fsm::Speaker::poll_output) is drained: connections to dial or to close, and
//!    events for whoever owns the speaker.
//! 3. [`poll_transmit`](fsm::Speaker::poll_transmit) is asked for octets only when a socket can
//!    take some. They are built from the latest state at that moment, so a peer that doesn't read
//!    costs nothing but a mark at each change it has yet to hear of, and a change that a newer one
//!    overtook is never sent.
//! 4. [`poll_timeout`](fsm::Speaker::poll_timeout) says when to come back with
//!    [`Input::Timeout`](fsm::Input::Timeout). Coming back too early is harmless. Octets that can
//!    be read are fed before a timeout is, so that a busy host doesn't take itself for a dead peer.
//!
//! Jitter comes from a seed, so a recorded run replays to the octet.
//!
//! # Using it
//!
//! With the driver: `speaker::spawn`, then a `Handle` to configure peers and hand over routes.
//! Nothing is announced, and no End-of-RIB sent, before `open_gate` says that the first complete set
//! of routes was handed over. The README has a speaker of thirty lines; complete programs are the
//! examples
//!
//! * `announce`: prefixes to a router until Ctrl-C;
//! * `sink`: takes sessions and counts what comes, with [`wire`] alone on plain sockets.

pub mod bfd;
pub mod config;
pub mod fsm;
pub mod rib;
#[cfg(feature = "serde")]
mod seconds;
#[cfg(feature = "speaker")]
pub mod speaker;
pub mod wire;

/// The README's program compiles.
#[cfg(all(doctest, feature = "speaker"))]
#[doc = include_str!("../README.md")]
struct Readme;
