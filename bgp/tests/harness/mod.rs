//! Test harness: speakers of the state machine under a virtual clock, without sockets or threads.
//! An hour of KEEPALIVEs takes milliseconds, and each run with the same inputs is the same.
//!
//! # Which part to use
//!
//! * [`World`]: two or more speakers in a virtual network. For what a session does.
//! * [`Router`]: one speaker whose only peer is the test. For what a session does if the peer
//!   violates the protocol, or rejects us.
//! * [`random`]: one speaker and random operations. For what holds in every state.
//!
//! All three drive a [`CheckedSpeaker`], which asserts the poll contract of the crate after each
//! call.
//!
//! # A test in ten lines
//!
//! ```ignore
//! #[test]
//! fn a_withdrawn_route_is_withdrawn_at_the_peer() {
//!     let mut world = pair(hold_time(9)); // host 0 dials host 1, which it calls "b"
//!     world.input(0, routes("b", vec![(net("203.0.113.0/24"), route(5))]));
//!     world.input(0, Input::OpenGate);
//!     world.run_until(seconds(5), "route received", |world| world.hosts[1].table().len() == 1);
//!     world.input(0, routes("b", vec![(net("203.0.113.0/24"), None)]));
//!     world.run(seconds(1));
//!     assert!(world.hosts[1].table().is_empty());
//! }
//! ```
//!
//! [`world::Host`] records what a speaker did: its events, messages and dials, each with its time.

mod checked;
mod configs;
pub(crate) mod random;
mod router;
mod world;

pub(crate) use checked::CheckedSpeaker;
pub(crate) use configs::{
    established_pair, hold_time, net, pair, passive, peer, route, routes, seconds, shutdown,
};
pub(crate) use router::{Router, router};
pub(crate) use world::{WINDOW, World};
