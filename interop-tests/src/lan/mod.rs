//! Hosts on the LAN of a rack, what they see of it, and faults of its switch: for layer 2.

mod answers;
mod capture;
mod cluster;
mod cpu_group;
mod host;
mod switch;

pub use answers::{answers, cached_answer};
pub use capture::{Capture, Captured, Frame};
pub use cluster::LanCluster;
pub use cpu_group::CpuGroup;
pub use host::{Host, Mac, mac};
pub use switch::Switch;
