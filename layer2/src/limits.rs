//! Timers and limits, each with its reason.

use std::time::Duration;

/// Hello interval of a node that owns addresses, unless there are many nodes.
pub const HELLO_INTERVAL: Duration = Duration::from_millis(100);
/// The hello interval grows with the number of nodes, so that no node receives more than 2,000
/// hellos per second.
pub const HELLO_INTERVAL_PER_NODE: Duration = Duration::from_micros(500);
/// The hello interval of a node that owns nothing.
pub const IDLE_HELLO_INTERVAL: Duration = Duration::from_secs(1);
/// The range of a configured hello interval.
pub const HELLO_INTERVAL_RANGE: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(10));
/// A node is silent after this many of its intervals without a hello.
pub const HELLO_MULTIPLIER: u8 = 3;
/// Unsolicited frames per second and interface: below the rate at which switches with default
/// storm control drop, and enough to announce 500 addresses in a quarter of a second.
pub const GRATUITOUS_RATE: u32 = 2_000;
/// The range of a configured rate.
pub const GRATUITOUS_RATE_RANGE: (u32, u32) = (1, 100_000);
/// Answers per second and interface. A flood of requests must not delay hellos.
pub const ANSWER_RATE: u32 = 1_000;
/// How long a better placed node must be better before a sticky address moves to it.
pub const PREFERENCE_HOLD_DOWN: Duration = Duration::from_secs(30);
/// How long peers wait for a process that said it restarts.
pub const RESTART_HOLD: Duration = Duration::from_secs(10);
/// How long peers wait for a silent process whose node still answers.
pub const DEAD_PROCESS_HOLD: Duration = Duration::from_secs(2);
/// The interval of our router advertisements on a link to an unnumbered BGP neighbor: as FRR's,
/// which learns its neighbor from them.
pub const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(10);
/// The interval of the first [`FIRST_ADVERTISEMENTS`] of them, so that one may be lost.
pub const FIRST_ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// How many are sent at the shorter interval.
pub const FIRST_ADVERTISEMENTS: u8 = 3;
/// Solicitations are answered at this interval at most (RFC 4861 §6.2.6, MIN_DELAY_BETWEEN_RAS).
pub const ADVERTISEMENT_INTERVAL_MIN: Duration = Duration::from_secs(3);
/// The interval of our solicitations while no router is known (RFC 4861 §10).
pub const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// How many are sent (RFC 4861 §10).
pub const SOLICITATIONS: u8 = 3;
/// The routers that are remembered of a link. A flood of advertisements must not fill the memory.
pub const ROUTERS_MAX: usize = 16;
