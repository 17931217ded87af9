//! BFD beside the session, against BIRD and FRR: the crate's example `announce` in a node.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::{Daemon, Scratch, run, scenario, signal_pid};
use ferrolb_interop_tests::router::{Bird, Frr, Router};
use ferrolb_interop_tests::topology::{NODE_ASN, Node, TOR_ASN, TOR_IPV4, TOR_IPV6, Topology};
use ferrolb_interop_tests::wait::{holds, until};

const UP: Duration = Duration::from_secs(20);
/// 100 ms × 3 at both ends.
const DETECTION: Duration = Duration::from_millis(300);
/// What the machine may be late by.
const MARGIN: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bird,
    Frr,
}

const BIRD: &str = "\
router id 10.99.0.1;
log stderr all;
debug protocols { states, events };
protocol device {}
protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; };
  multihop { interval 100 ms; multiplier 3; }; }
template bgp node {
  local as 64600; hold time 30;
  connect delay time 1; connect retry time 2; error wait time 1, 2;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
}
";

const FRR: &str = "\
frr defaults datacenter
log stdout informational
bfd
 profile fast
  receive-interval 100
  transmit-interval 100
  detect-multiplier 3
 exit
exit
router bgp 64600
 bgp router-id 10.99.0.1
 no bgp ebgp-requires-policy
 timers bgp 10 30
";

/// What the router's peer has to have.
#[derive(Clone, Copy, Debug)]
struct Session {
    local: &'static str,
    remote: &'static str,
    multihop: bool,
    bfd: bool,
}

const DIRECT: Session = Session {
    local: "10.99.0.1",
    remote: "10.99.0.11",
    multihop: false,
    bfd: true,
};

fn router<'lab>(
    kind: Kind,
    scratch: &'lab Scratch,
    namespace: &'lab Namespace,
    session: Session,
) -> Result<Box<dyn Router + 'lab>> {
    let Session {
        local,
        remote,
        multihop,
        bfd,
    } = session;
    let file = scratch.file(&format!("{kind:?}.conf"));
    match kind {
        Kind::Bird => {
            let hops = if multihop { "multihop 5;" } else { "direct;" };
            let bfd = if bfd { "bfd on;" } else { "" };
            let peer = format!(
                "{BIRD}protocol bgp node1 from node {{ local {local}; neighbor {remote} as 64700; {hops} {bfd} }}\n"
            );
            fs::write(&file, peer)?;
            Ok(Box::new(Bird::with_configuration(scratch, namespace, file)))
        }
        Kind::Frr => {
            let mut text = format!(
                "{FRR} neighbor {remote} remote-as 64700\n neighbor {remote} update-source {local}\n \
                 neighbor {remote} timers connect 2\n"
            );
            if multihop {
                text += &format!(" neighbor {remote} ebgp-multihop 5\n");
            }
            if bfd {
                text += &format!(" neighbor {remote} bfd\n neighbor {remote} bfd profile fast\n");
            }
            text += &format!(
                " address-family ipv6 unicast\n  neighbor {remote} activate\n exit-address-family\nexit\n"
            );
            fs::write(&file, text)?;
            Ok(Box::new(Frr::with_configuration(scratch, namespace, file)))
        }
    }
}

/// Builds the example once.
fn program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    let cargo = std::env::var("CARGO").context("to be run by cargo")?;
    let messages = run(Command::new(cargo)
        .args(["build", "--quiet", "--message-format=json"])
        .args(["-p", "ferrolb-bgp", "--example", "announce"]))?;
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo named no executable")?;
    Ok(PROGRAM.get_or_init(|| program).clone())
}

/// Starts the example in a node, with BFD at 100 ms × 3.
fn announce(scratch: &Scratch, node: &Node, more: &[&str]) -> Result<Daemon> {
    announce_as(scratch, node, "announce", more)
}

fn announce_as(scratch: &Scratch, node: &Node, name: &str, more: &[&str]) -> Result<Daemon> {
    let mut command = node.namespace.command(program()?);
    command.args(["--local-asn", &NODE_ASN.to_string()]);
    command.args(["--peer-asn", &TOR_ASN.to_string()]);
    command.args(["--hold-time", "30", "--prefix", "203.0.113.10/32"]);
    command.args(["--bfd", "--bfd-interval", "100", "-v"]);
    command.args(more);
    Daemon::start(scratch, name, &command)
}

/// What the log says when BFD ends a session.
const DOWN: &str = "session down: sent Cease/BFD Down";

/// How often the log has these words.
fn said(daemon: &Daemon, words: &str) -> Result<usize> {
    Ok(daemon.log_text()?.matches(words).count())
}

fn await_said(daemon: &Daemon, words: &str, times: usize, within: Duration) -> Result<()> {
    until(format!("\"{words}\" × {times}"), within, || {
        let count = said(daemon, words)?;
        ensure!(count >= times, "{count} times");
        Ok::<_, anyhow::Error>(())
    })
}

/// Both are up and stay so. FRR 8.4 makes its BFD session anew when BGP comes up, once it knows the
/// interface, and takes BGP down again by that; the second time it stands.
fn both_up(announcer: &Daemon) -> Result<()> {
    until("BGP and BFD up for a while", UP * 2, || {
        holds("up", Duration::from_millis(1500), || {
            let log = announcer.log_text()?;
            let up =
                |up: &str, down: &str| log.rfind(up).is_some() && log.rfind(up) > log.rfind(down);
            ensure!(up("session up", "session down") && up("BFD Up", "BFD Down"));
            Ok::<_, anyhow::Error>(())
        })
    })
}

/// Up; a silent cut; Cease/BFD Down within the detection time; back when the link is.
fn cut_and_mend(kind: Kind, session: Session, more: &[&str]) {
    let name = format!(
        "bfd-{kind:?}-{}-{}",
        session.remote.contains(':'),
        session.multihop
    );
    scenario(&name, |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0];
        let mut router = router(kind, scratch, &rack.tor, session)?;
        router.start()?;
        let announcer = announce(scratch, node, more)?;
        both_up(&announcer)?;

        let before = said(&announcer, DOWN)?;
        node.uplink.cut()?;
        let cut = Instant::now();
        await_said(&announcer, DOWN, before + 1, DETECTION + MARGIN)?;
        eprintln!("{name}: seen after {:?}", cut.elapsed());
        until("the router noticed", UP, || {
            ensure!(router.sessions()?.is_empty());
            Ok::<_, anyhow::Error>(())
        })?;
        node.uplink.mend()?;
        both_up(&announcer)
    });
}

#[test]
fn a_silent_cut_is_seen_beside_bird() {
    cut_and_mend(Kind::Bird, DIRECT, &["--peer", "10.99.0.1"]);
}

#[test]
fn a_silent_cut_is_seen_beside_frr() {
    cut_and_mend(Kind::Frr, DIRECT, &["--peer", "10.99.0.1"]);
}

#[test]
fn a_silent_cut_is_seen_over_ipv6() {
    for kind in [Kind::Bird, Kind::Frr] {
        let session = Session {
            local: "fd99::1",
            remote: "fd99::11",
            ..DIRECT
        };
        let peer = TOR_IPV6.to_string();
        cut_and_mend(
            kind,
            session,
            &["--peer", &peer, "--next-hop4", "10.99.0.11"],
        );
    }
}

#[test]
fn a_silent_cut_is_seen_over_several_hops() {
    for kind in [Kind::Bird, Kind::Frr] {
        let session = Session {
            multihop: true,
            ..DIRECT
        };
        cut_and_mend(
            kind,
            session,
            &[
                "--peer",
                "10.99.0.1",
                "--source",
                "10.99.0.11",
                "--multihop",
                // BIRD 2 sends with TTL 64 here.
                "--bfd-min-ttl",
                "60",
            ],
        );
    }
}

#[test]
fn a_router_that_ends_bfd_on_purpose_keeps_its_session() {
    scenario("bfd-admin-down", |scratch| {
        let rack = Topology::new(1)?;
        let mut frr = router(Kind::Frr, scratch, &rack.tor, DIRECT)?;
        frr.start()?;
        let peer = TOR_IPV4.to_string();
        let announcer = announce(scratch, &rack.nodes[0], &["--peer", &peer])?;
        both_up(&announcer)?;
        let before = said(&announcer, "session down")?;
        let mut vtysh = Command::new("vtysh");
        vtysh.args(["-N", rack.tor.name()]);
        for line in ["configure terminal", "bfd", "profile fast", "shutdown"] {
            vtysh.args(["-c", line]);
        }
        run(&mut vtysh)?;
        await_said(&announcer, "the peer ended BFD on purpose", 1, UP)?;
        holds("the session", Duration::from_secs(2), || {
            let log = announcer.log_text()?;
            ensure!(said(&announcer, "session down")? == before, "{log}");
            Ok::<_, anyhow::Error>(())
        })
    });
}

/// A session that waits for BFD comes up with it; without BFD at the router it never does.
fn strict(kind: Kind) {
    scenario(&format!("bfd-strict-{kind:?}"), |scratch| {
        let rack = Topology::new(1)?;
        let mut with = router(kind, scratch, &rack.tor, DIRECT)?;
        with.start()?;
        let more = ["--peer", &TOR_IPV4.to_string(), "--bfd-strict"];
        let mut announcer = announce(scratch, &rack.nodes[0], &more)?;
        both_up(&announcer)?;
        let log = announcer.log_text()?;
        let at = |words: &str| log.find(words).context(words.to_owned());
        ensure!(at("BFD Up")? < at("session up")?, "{log}");
        signal_pid("INT", announcer.pid())?;
        announcer.wait_exit(UP)?;
        with.stop()?;
        drop(with);

        let without = Session {
            bfd: false,
            ..DIRECT
        };
        let mut without = router(kind, scratch, &rack.tor, without)?;
        without.start()?;
        let announcer = announce_as(scratch, &rack.nodes[0], "in-vain", &more)?;
        await_said(&announcer, "waiting for BFD", 1, UP)?;
        holds("no session", Duration::from_secs(3), || {
            ensure!(
                said(&announcer, "session up")? == 0,
                "{}",
                announcer.log_text()?
            );
            Ok::<_, anyhow::Error>(())
        })
    });
}

#[test]
fn strict_mode_waits_for_bird() {
    strict(Kind::Bird);
}

#[test]
fn strict_mode_waits_for_frr() {
    strict(Kind::Frr);
}

#[test]
fn two_ferrolb_watch_each_other_and_leave_without_alarm() {
    scenario("bfd-ferrolb", |scratch| {
        let hosts = [Namespace::new("left")?, Namespace::new("right")?];
        let link = Link::new((&hosts[0], "wire"), (&hosts[1], "wire"))?;
        let mut daemons = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            let mine = format!("10.1.0.{}", index + 1);
            host.address("wire", &format!("{mine}/24"))?;
            let mut command = host.command(program()?);
            let asns = [
                ["--local-asn", "65001", "--peer-asn", "65002"],
                ["--local-asn", "65002", "--peer-asn", "65001"],
            ];
            command.args(asns[index]);
            command.args([
                "--peer",
                &format!("10.1.0.{}", 2 - index),
                "--listen",
                &format!("{mine}:179"),
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
            daemons.push(Daemon::start(
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
        signal_pid("INT", daemons[0].pid())?;
        daemons[0].wait_exit(UP)?;
        await_said(&daemons[1], "Administrative Shutdown", 1, UP)?;
        ensure!(said(&daemons[1], DOWN)? == 1);
        Ok(())
    });
}
