//! Codecs of the frames: Ethernet, ARP, Neighbor Discovery,
//! Router Discovery, and hellos. Pure functions.

pub mod arp;
pub mod ethernet;
pub mod hello;
pub mod hello_frame;
pub mod ndp;
pub mod router_discovery;

mod checksum;
mod icmpv6;
mod reader;
