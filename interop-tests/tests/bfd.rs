//! BFD (RFC 5880): AdminDown of a router, and BFD between two ferrolb speakers. The node runs the
//! example `announce`. Further BFD tests are rows of docs/interop.md.

use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::example::{self, program};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::{Process, signal_pid};
use ferrolb_interop_tests::router::{Frr, Router};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};

const UP: Duration = Duration::from_secs(20);
/// Delay allowed for a busy machine.
const MARGIN: Duration = Duration::from_millis(700);

/// Log line of a session that BFD ends.
const DOWN: &str = "session down: sent Cease/BFD Down";

/// How often the log contains a text.
fn occurrences(daemon: &Process, words: &str) -> Result<usize> {
    Ok(daemon.log_text()?.matches(words).count())
}

fn await_occurrences(daemon: &Process, words: &str, times: usize, within: Duration) -> Result<()> {
    eventually(format!("\"{words}\" × {times}"), within, || {
        let count = occurrences(daemon, words)?;
        ensure!(count >= times, "{count} times");
        Ok::<_, anyhow::Error>(())
    })
}

/// Waits until BGP and BFD are up and stay up for 1.5 s. FRR 8.4 creates a new BFD session when BGP
/// comes up and it knows the interface. That ends the first BGP session; the second one is stable.
fn both_up(announcer: &Process) -> Result<()> {
    eventually("BGP and BFD stay up", UP * 2, || {
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
fn the_session_stays_up_when_the_peer_signals_admin_down_rfc5882_3_2() {
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
        let before = occurrences(&announcer, "session down")?;
        frr.configure_lines(&["bfd", "profile fast", "shutdown"])?;
        await_occurrences(&announcer, "peer signaled AdminDown", 1, UP)?;
        consistently("the session", Duration::from_secs(2), || {
            let log = announcer.log_text()?;
            ensure!(occurrences(&announcer, "session down")? == before, "{log}");
            Ok::<_, anyhow::Error>(())
        })
    });
}

#[test]
fn two_ferrolb_detect_a_cut_and_take_no_admin_down_for_a_failure() {
    two_ferrolb("bfd-ferrolb", "10.1.0.", "/24");
}

#[test]
fn two_ferrolb_detect_a_cut_between_link_local_addresses() {
    two_ferrolb("bfd-link-local", "fe80::", "/64");
}

/// Two hosts with the host numbers 1 and 2 in this network.
fn two_ferrolb(name: &str, network: &str, length: &str) {
    scenario(name, |scratch| {
        let hosts = [Namespace::new("left")?, Namespace::new("right")?];
        let link = Link::new((&hosts[0], "wire"), (&hosts[1], "wire"))?;
        let mut daemons = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            let [mine, theirs] = [index + 1, 2 - index].map(|host| format!("{network}{host}"));
            host.address("wire", &format!("{mine}{length}"))?;
            let listen = if mine.contains(':') {
                "[::]:179".to_owned() // a link-local address does not name its interface
            } else {
                format!("{mine}:179")
            };
            let mut command = host.command(program(example::BGP)?);
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
            await_occurrences(daemon, DOWN, 1, Duration::from_millis(150) + MARGIN)?;
        }
        link.restore()?;
        for daemon in &daemons {
            both_up(daemon)?;
        }
        let downs = occurrences(&daemons[1], DOWN)?;
        signal_pid("INT", daemons[0].pid())?;
        daemons[0].wait_exit(UP)?;
        await_occurrences(&daemons[1], "Administrative Shutdown", 1, UP)?;
        ensure!(
            occurrences(&daemons[1], DOWN)? == downs,
            "AdminDown was taken for a failure"
        );
        Ok(())
    });
}
