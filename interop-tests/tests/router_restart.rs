//! Restart of BIRD as the router: with graceful restart on both sides no route in its kernel
//! changes. traffic.rs tests the same for FRR with a Service's traffic.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::consistently;
use ferrolb_interop_tests::example::{self, program};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Bird, Router, await_kernel, await_sessions};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};

const PREFIX: &str = "203.0.113.10";
const UP: Duration = Duration::from_secs(25);
/// Nodes retry every second after a session that lasted twice its hold time of 3 s.
const STABLE: Duration = Duration::from_secs(7);
/// Downtime of BIRD.
const DOWNTIME: Duration = Duration::from_secs(2);
/// Time for several of BIRD's scans of the kernel's routes; the first follows its recovery.
const OBSERVATION: Duration = Duration::from_secs(4);

#[test]
fn a_graceful_restart_of_bird_changes_no_route_in_its_kernel() {
    scenario("router-restart", |scratch| {
        program(example::BGP)?;
        let rack = Topology::new(2)?;
        let mut bird = Bird::new(scratch, &rack.tor, "router-restart");
        bird.start()?;
        let announcers = rack.nodes.iter().map(|node| {
            let announcer = AnnounceExample::new(scratch, node).with("--peer", TOR_IPV4);
            let announcer = announcer.with("--graceful-restart", 20);
            announcer.with("--prefix", format!("{PREFIX}/32")).start()
        });
        let _announcers: Vec<Process> = announcers.collect::<Result<_>>()?;
        let nodes: BTreeSet<IpAddr> = rack.nodes.iter().map(|node| node.ipv4.into()).collect();
        await_kernel(&rack.tor, PREFIX, &nodes, UP)?;
        sleep(STABLE);

        let mut monitor = rack.tor.command("ip");
        monitor.args(["-4", "monitor", "route"]);
        let monitor = Process::start(scratch, "monitor", &monitor)?;
        bird.kill()?;
        sleep(DOWNTIME);
        bird.start()?;
        await_sessions(&bird, &nodes, UP)?;
        consistently("both next hops", OBSERVATION, || {
            let next_hops = rack.tor.kernel_next_hops(PREFIX)?;
            ensure!(next_hops == nodes, "{next_hops:?}");
            Ok(())
        })?;
        // The monitor also sees a short change. Replacing a route by an equal one is allowed.
        let changes = monitor.log_text()?;
        let worse = |line: &&str| {
            let one_path = line.starts_with(&format!("{PREFIX} via"));
            one_path || line.starts_with(&format!("Deleted {PREFIX}"))
        };
        let worse: Vec<&str> = changes.lines().filter(worse).collect();
        ensure!(worse.is_empty(), "{changes}");
        Ok(())
    });
}
