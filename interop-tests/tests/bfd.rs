//! BFD beside the session where it takes more than a row of docs/interop.md: a router that ends it on purpose, and two
//! ferrolb that leave each other. The crate's example `announce` is the node's side.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce_example::{AnnounceExample, program};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::{Process, run, scenario, signal_pid};
use ferrolb_interop_tests::router::{Frr, Router};
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};

const UP: Duration = Duration::from_secs(20);
/// What the machine may be late by.
const MARGIN: Duration = Duration::from_millis(700);

/// What the log says when BFD ends a session.
const DOWN: &str = "session down: sent Cease/BFD Down";

/// How often the log has these words.
fn said(daemon: &Process, words: &str) -> Result<usize> {
    Ok(daemon.log_text()?.matches(words).count())
}

fn await_said(daemon: &Process, words: &str, times: usize, within: Duration) -> Result<()> {
    eventually(format!("\"{words}\" × {times}"), within, || {
        let count = said(daemon, words)?;
        ensure!(count >= times, "{count} times");
        Ok::<_, anyhow::Error>(())
    })
}

/// Both are up and stay so. FRR 8.4 makes its BFD session anew when BGP comes up, once it knows the
/// interface, and takes BGP down again by that; the second time it stands.
fn both_up(announcer: &Process) -> Result<()> {
    eventually("BGP and BFD up for a while", UP * 2, || {
        consistently("up", Duration::from_millis(1500), || {
            let log = announcer.log_text()?;
            let up =
                |up: &str, down: &str| log.rfind(up).is_some() && log.rfind(up) > log.rfind(down);
            ensure!(up("session up", "session down") && up("BFD Up", "BFD Down"));
            Ok::<_, anyhow::Error>(())
        })
    })
}

#[test]
fn a_router_that_ends_bfd_on_purpose_keeps_its_session() {
    scenario("bfd-admin-down", |scratch| {
        let rack = Topology::new(1)?;
        let mut frr = Frr::new(scratch, &rack.tor, "bfd");
        frr.start()?;
        let announcer = AnnounceExample::new(scratch, &rack.nodes[0])
            .with("--peer", TOR_IPV4)
            .with("--hold-time", 9)
            .flag("--bfd")
            .with("--bfd-interval", 100)
            .start()?;
        both_up(&announcer)?;
        let before = said(&announcer, "session down")?;
        let mut vtysh = Command::new("vtysh");
        vtysh.args(["-N", rack.tor.name()]);
        for line in ["configure terminal", "bfd", "profile fast", "shutdown"] {
            vtysh.args(["-c", line]);
        }
        run(&mut vtysh)?;
        await_said(&announcer, "peer signaled AdminDown", 1, UP)?;
        consistently("the session", Duration::from_secs(2), || {
            let log = announcer.log_text()?;
            ensure!(said(&announcer, "session down")? == before, "{log}");
            Ok::<_, anyhow::Error>(())
        })
    });
}

#[test]
fn two_ferrolb_watch_each_other_and_leave_without_alarm() {
    two_ferrolb("bfd-ferrolb", "10.1.0.", "/24");
}

#[test]
fn two_ferrolb_watch_each_other_over_link_local_addresses() {
    two_ferrolb("bfd-link-local", "fe80::", "/64");
}

/// The hosts have these addresses with 1 and 2 behind.
fn two_ferrolb(name: &str, network: &str, length: &str) {
    scenario(name, |scratch| {
        let hosts = [Namespace::new("left")?, Namespace::new("right")?];
        let link = Link::new((&hosts[0], "wire"), (&hosts[1], "wire"))?;
        let mut daemons = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            let [mine, theirs] = [index + 1, 2 - index].map(|host| format!("{network}{host}"));
            host.address("wire", &format!("{mine}{length}"))?;
            let listen = if mine.contains(':') {
                "[::]:179".to_owned() // a link-local address alone doesn't say where
            } else {
                format!("{mine}:179")
            };
            let mut command = host.command(program()?);
            let asns = [
                ["--local-asn", "65001", "--peer-asn", "65002"],
                ["--local-asn", "65002", "--peer-asn", "65001"],
            ];
            command.args(asns[index]);
            command.args([
                "--peer",
                &theirs,
                "--listen",
                &listen,
                "--router-id",
                &format!("10.255.0.{}", index + 1),
            ]);
            command.args([
                "--bfd",
                "--bfd-interval",
                "50",
                "--bfd-strict",
                "--gtsm",
                "1",
                "--interface",
                "wire",
                "-v",
            ]);
            daemons.push(Process::start(
                scratch,
                &format!("announce-{index}"),
                &command,
            )?);
        }
        for daemon in &daemons {
            both_up(daemon)?;
        }
        link.cut()?;
        for daemon in &daemons {
            await_said(daemon, DOWN, 1, Duration::from_millis(150) + MARGIN)?;
        }
        link.mend()?;
        for daemon in &daemons {
            both_up(daemon)?;
        }
        let downs = said(&daemons[1], DOWN)?;
        signal_pid("INT", daemons[0].pid())?;
        daemons[0].wait_exit(UP)?;
        await_said(&daemons[1], "Administrative Shutdown", 1, UP)?;
        ensure!(said(&daemons[1], DOWN)? == downs, "AdminDown is no loss");
        Ok(())
    });
}
