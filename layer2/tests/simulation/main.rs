//! Engines of several nodes on simulated LANs.

mod answers;
mod arp;
mod authentication;
mod clocks;
mod conflicts;
mod failover;
mod interfaces;
mod partition;
mod planned;
mod prediction;
mod properties;
mod rollout;
mod scale;
mod self_test;
mod stops;
mod world;
