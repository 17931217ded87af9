//! Codecs of the frames: Ethernet, ARP, Neighbor Discovery, and hellos. Pure functions.

pub mod arp;
pub mod ethernet;
pub mod hello;
pub mod hello_frame;
pub mod ndp;

mod checksum;
mod reader;
