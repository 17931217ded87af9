//! Engines of several nodes on simulated LANs.

mod arp;
mod failover;
mod partition;
mod planned;
mod prediction;
mod world;
