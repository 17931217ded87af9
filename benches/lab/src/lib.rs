//! What the lab's benchmarks share: a client of the API server, printing a measurement, reading
//! `/proc`, statistics.
//!
//! A benchmark is a program in `benches/` that starts its hosts with [`ferrolb_interop_tests`] and
//! prints one JSON object per measurement ([`measurement::print`]). `cargo xtask bench` runs all of
//! them and writes docs/benchmarks.md; `cargo xtask bench NAME` runs one:
//!
//! * `bgp`: ferrolb's engine beside BIRD, FRR, GoBGP, ExaBGP and OpenBGPD.
//! * `cluster`: the daemon with a real API server and up to 10,000 Services, and beside MetalLB.
//! * `laptop`: commands about a whole cluster, and the page of `ferrolb ui`.
//! * `layer2`: failover of addresses beside MetalLB and keepalived.
//! * `layer2_scale`: layer 2 with many nodes and addresses.
//! * `scale`: memory, traffic and decisions with up to 5,000 nodes.
//! * `traffic`: connections that fail or break during a disruption.
//!
//! Without xtask a run needs root, `FERROLB_BIN` and the packages of `cargo xtask test lab`:
//! `cargo bench -p ferrolb-lab-bench --features lab --bench bgp`.

pub mod api_server;
pub mod measurement;
pub mod proc_stats;
pub mod statistics;
