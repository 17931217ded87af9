//! Records `bgp/tests/fixtures/corpus.tsv`: BGP messages and BFD packets of ferrolb and of each
//! router product, captured on a node's interfaces. With `UPDATE_CORPUS=1` all scenarios run and
//! write the file. Otherwise one scenario runs: each side must send the OPEN that the file has, and
//! no kind of message that the file lacks.

mod recorder;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ferrolb_bgp::bfd::Packet;
use ferrolb_bgp::wire::{DecodeContext, Family, Message};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::example::{self, program};
use ferrolb_interop_tests::process::{Process, signal_pid};
use ferrolb_interop_tests::router::{Kind, Router};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{NODE_ASN, Node, TOR_IPV4, TOR_IPV6, Topology};

use recorder::{Protocol, Recorded, Recorder};

const PATH: &str = "bgp/tests/fixtures/corpus.tsv";
const HEAD: &str = "scenario\tsender\tprotocol\toctets\n";
const KINDS: [Kind; 6] = [
    Kind::Bird,
    Kind::Exabgp,
    Kind::Ferrolb,
    Kind::Frr,
    Kind::Gobgp,
    Kind::Openbgpd,
];
/// Time from the start to a session; GoBGP dials after nearly 10 s.
const UP: Duration = Duration::from_secs(25);
const IMMEDIATELY: Duration = Duration::from_secs(4);
const PREFIXES: [&str; 2] = ["203.0.113.11/32", "2001:db8:113::11/128"];

/// The hosts of a scenario and its recorder.
struct Stage<'lab> {
    scratch: &'lab Scratch,
    router: &'lab dyn Router,
    nodes: &'lab [Node],
    recorder: &'lab Recorder,
}

/// The sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Node,
    Router,
}

/// Messages between a router and the last node.
struct Scenario {
    /// The router's configuration in `peering-examples/`.
    example: &'static str,
    /// Description, part of the file.
    about: &'static str,
    nodes: u8,
    run: fn(&Stage<'_>) -> Result<()>,
    /// The routers without such a configuration, or without messages of their own in this scenario.
    without: &'static [Kind],
}

/// The first scenario runs in every test run.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        example: "all-capabilities",
        about: "routes with communities, the node stops",
        nodes: 1,
        run: communities,
        without: &[],
    },
    Scenario {
        example: "active",
        about: "the router dials, requests a route refresh and shuts the session down",
        nodes: 1,
        run: shut_down,
        without: &[Kind::Ferrolb],
    },
    Scenario {
        example: "collector",
        about: "the router propagates routes",
        nodes: 2,
        run: propagated,
        without: &[Kind::Exabgp, Kind::Ferrolb],
    },
    Scenario {
        example: "graceful-restart",
        about: "the node is killed and restarted",
        nodes: 1,
        run: restart,
        without: &[Kind::Exabgp],
    },
    Scenario {
        example: "ipv6-only",
        about: "IPv4 routes with an IPv6 next hop",
        nodes: 1,
        run: ipv6_only,
        without: &[Kind::Openbgpd],
    },
    Scenario {
        example: "ibgp",
        about: "routes with LOCAL_PREF",
        nodes: 1,
        run: ibgp,
        without: &[],
    },
    Scenario {
        example: "two-octet-as",
        about: "a node with a four-octet AS, a router that supports two octets only",
        nodes: 1,
        run: two_octet_as,
        without: &[Kind::Ferrolb, Kind::Frr, Kind::Gobgp],
    },
    Scenario {
        example: "bfd",
        about: "BFD comes up, the path is cut and restored, the node stops",
        nodes: 1,
        run: bfd,
        without: &[Kind::Exabgp, Kind::Gobgp, Kind::Openbgpd],
    },
];

impl Stage<'_> {
    /// The announcer of both prefixes on the first node, which dials the router.
    fn dialler(&self) -> AnnounceExample<'_> {
        self.announcer().with("--peer", TOR_IPV4)
    }

    fn announcer(&self) -> AnnounceExample<'_> {
        let announcer = AnnounceExample::new(self.scratch, &self.nodes[0]);
        let announcer = announcer.with("--hold-time", 9);
        let [v4, v6] = PREFIXES;
        announcer.with("--prefix", v4).with("--prefix", v6)
    }

    /// Waits until the router has both prefixes.
    fn await_routes(&self) -> Result<()> {
        eventually("the router's table", UP, || {
            let table = self.router.table()?;
            let found: BTreeSet<String> = table.iter().map(|one| one.prefix.to_string()).collect();
            ensure!(found == PREFIXES.map(str::to_owned).into(), "{found:?}");
            Ok(())
        })
    }

    /// The node on which the messages are captured.
    fn recorded(&self) -> Result<&Node> {
        self.nodes.last().context("no node")
    }

    /// Waits until `count` messages of this side, of a kind with this beginning, are recorded.
    fn await_sent(&self, side: Side, words: &str, count: usize) -> Result<()> {
        let node = self.recorded()?;
        eventually(format!("{count} times {words} of the {side:?}"), UP, || {
            let mut kinds = Vec::new();
            for one in self.recorder.recorded()? {
                let from_node = is_from(one.sender, node);
                if one.protocol == Protocol::Bgp && from_node == (side == Side::Node) {
                    kinds.push(message_kind(&one.octets)?);
                }
            }
            let found = kinds.iter().filter(|kind| kind.starts_with(words));
            ensure!(found.count() >= count, "{kinds:?}");
            Ok(())
        })
    }

    /// Stops the announcer once it has sent all routes.
    fn stop(&self, mut announcer: Process) -> Result<()> {
        self.await_sent(Side::Node, "End-of-RIB", 2)?;
        signal_pid("INT", announcer.pid())?;
        let status = announcer.wait_exit(IMMEDIATELY)?;
        ensure!(status.success(), "{status}");
        self.await_sent(Side::Node, "Cease", 1)
    }
}

fn with_communities(announcer: AnnounceExample<'_>) -> AnnounceExample<'_> {
    announcer
        .with("--community", "64700:120")
        .with("--large-community", "64700:1:2")
        .with("--extended-community", "rt:64700:7")
}

fn communities(stage: &Stage<'_>) -> Result<()> {
    let announcer = with_communities(stage.dialler()).start()?;
    stage.await_routes()?;
    stage.stop(announcer)
}

fn shut_down(stage: &Stage<'_>) -> Result<()> {
    let listen = format!("{}:179", stage.nodes[0].ipv4);
    let announcer = stage.dialler().flag("--passive").with("--listen", listen);
    let _announcer = announcer.start()?;
    stage.await_routes()?;
    let node = IpAddr::V4(stage.nodes[0].ipv4);
    // GoBGP has no command that requests a refresh.
    if stage.router.kind() != Kind::Gobgp {
        stage.await_sent(Side::Node, "End-of-RIB", 2)?;
        stage.router.refresh(node)?;
        stage.await_sent(Side::Node, "UPDATE +1", 4)?;
    }
    stage.router.shut_down(node, "new line card")?;
    stage.await_sent(Side::Router, "Cease", 1)
}

fn propagated(stage: &Stage<'_>) -> Result<()> {
    let _announcer = with_communities(stage.dialler()).start()?;
    stage.await_routes()?;
    let collector = AnnounceExample::new(stage.scratch, &stage.nodes[1]);
    let collector = collector.local_asn(64800).flag("--receive");
    let collector = collector.with("--peer", TOR_IPV4).start()?;
    collector.await_log(&[PREFIXES[0]], UP)?;
    stage.stop(collector)
}

fn restart(stage: &Stage<'_>) -> Result<()> {
    let announcer = stage.dialler().with("--graceful-restart", 20);
    let mut killed = announcer.start()?;
    stage.await_routes()?;
    killed.kill()?;
    let back = announcer.start()?;
    eventually("two sessions", UP, || {
        ensure!(back.log_text()?.matches("session up").count() == 2);
        Ok::<_, anyhow::Error>(())
    })?;
    stage.await_routes()?;
    stage.stop(back)
}

fn ipv6_only(stage: &Stage<'_>) -> Result<()> {
    let announcer = stage.announcer().with("--peer", TOR_IPV6).start()?;
    stage.await_routes()?;
    stage.stop(announcer)
}

fn ibgp(stage: &Stage<'_>) -> Result<()> {
    let announcer = stage.dialler().peer_asn(NODE_ASN);
    let announcer = announcer.with("--local-pref", 150).start()?;
    stage.await_routes()?;
    stage.stop(announcer)
}

fn two_octet_as(stage: &Stage<'_>) -> Result<()> {
    let announcer = stage.dialler().local_asn(4_200_000_700).start()?;
    stage.await_routes()?;
    stage.stop(announcer)
}

fn bfd(stage: &Stage<'_>) -> Result<()> {
    let announcer = stage.dialler().flag("--bfd").with("--bfd-interval", 100);
    let announcer = announcer.flag("--bfd-strict").start()?;
    stage.await_routes()?;
    let link = &stage.nodes[0].uplink;
    link.cut()?;
    announcer.await_log(&["BFD Down"], UP)?;
    link.restore()?;
    stage.await_routes()?;
    stage.stop(announcer)
}

fn is_from(sender: IpAddr, node: &Node) -> bool {
    sender == IpAddr::V4(node.ipv4) || sender == IpAddr::V6(node.ipv6)
}

/// A line of the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    scenario: String,
    sender: String,
    protocol: Protocol,
    octets: Vec<u8>,
}

impl Line {
    /// Scenario, product and kind of the message; lines with equal keys are interchangeable.
    fn kind(&self) -> Result<String> {
        let kind = match self.protocol {
            Protocol::Bgp => message_kind(&self.octets)?,
            Protocol::Bfd => {
                let packet = Packet::decode(&self.octets)?;
                format!("BFD {:?}, {}", packet.state, packet.diagnostic)
            }
        };
        // Without the version, which changes with the package.
        let product = self.sender.split(' ').next().unwrap_or_default();
        Ok(format!("{} | {product} | {kind}", self.scenario))
    }
}

/// Type of a message with its capabilities, number of prefixes, or codes.
fn message_kind(octets: &[u8]) -> Result<String> {
    let context = |(four_octet_asn, ibgp)| DecodeContext {
        four_octet_asn,
        ibgp,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        max_length: u16::MAX.into(),
        ipv4_next_hop_v6: true,
        ..DecodeContext::default()
    };
    // The negotiated capabilities are unknown here: decode with each combination, and use the
    // result with the fewest errors.
    let readings = [(true, true), (true, false), (false, true), (false, false)];
    let readings = readings.map(context).into_iter().filter_map(|context| {
        let message = Message::decode(octets, &context)?.ok()?;
        let errors = match &message {
            Message::Update(update) => update.errors.len(),
            _ => 0,
        };
        Some((errors, message))
    });
    let best = readings.min_by_key(|(errors, _)| *errors);
    let (_, message) = best.with_context(|| format!("malformed: {octets:02x?}"))?;
    Ok(match message {
        Message::Open(open) => {
            let codes = open.capabilities.iter().map(|one| one.code().0.to_string());
            format!("OPEN {}", codes.collect::<Vec<_>>().join(" "))
        }
        Message::Update(update) => match update.end_of_rib() {
            Some(family) => format!("End-of-RIB {family}"),
            None => format!(
                "UPDATE +{} -{}",
                update.announced().count(),
                update.withdrawn_prefixes().count()
            ),
        },
        Message::Notification(notification) => notification.to_string(),
        Message::Keepalive => "KEEPALIVE".to_owned(),
        Message::RouteRefresh(refresh) => format!("ROUTE-REFRESH {}", refresh.subtype),
    })
}

/// Runs a scenario and returns its messages without duplicates; of BFD the first packet of each
/// state.
fn run(scratch: &Scratch, kind: Kind, scenario: &Scenario) -> Result<Vec<Line>> {
    let rack = Topology::new(scenario.nodes)?;
    let mut router = kind.router(scratch, &rack.tor, scenario.example);
    let node = rack.nodes.last().context("no node")?;
    let recorder = Recorder::start(&node.namespace)?;
    router.start()?;
    (scenario.run)(&Stage {
        scratch,
        router: &*router,
        nodes: &rack.nodes,
        recorder: &recorder,
    })?;
    let recorded = recorder.recorded()?;
    let router_version = format!("{} {}", router.name(), router.version()?);
    let ours = Kind::Ferrolb.router(scratch, &rack.tor, "ebgp").version()?;
    let ours = format!("ferrolb {ours}");
    let mut lines: Vec<Line> = Vec::new();
    let mut states = BTreeSet::new();
    for Recorded {
        sender,
        protocol,
        octets,
    } in recorded
    {
        if protocol == Protocol::Bfd {
            let Packet {
                state,
                diagnostic,
                poll,
                is_final,
                ..
            } = Packet::decode(&octets)?;
            let state = format!("{sender} {state:?} {diagnostic} {poll} {is_final}");
            if !states.insert(state) {
                continue;
            }
        }
        let sender = if is_from(sender, node) {
            &ours
        } else {
            &router_version
        };
        let line = Line {
            scenario: format!("{}/{}: {}", router.name(), scenario.example, scenario.about),
            sender: sender.clone(),
            protocol,
            octets,
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Ok(lines)
}

fn write(lines: &[Line]) -> Result<String> {
    let mut text = HEAD.to_owned();
    for line in lines {
        let protocol = match line.protocol {
            Protocol::Bgp => "BGP",
            Protocol::Bfd => "BFD",
        };
        write!(text, "{}\t{}\t{protocol}\t", line.scenario, line.sender)?;
        for octet in &line.octets {
            write!(text, "{octet:02x}")?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn read(text: &str) -> Result<Vec<Line>> {
    let lines = text.lines().skip(1).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [scenario, sender, protocol, hex] = columns[..] else {
            bail!("{PATH}: not four columns: {line}");
        };
        let octets = (0..hex.len()).step_by(2);
        let octets = octets.map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        Ok(Line {
            scenario: scenario.to_owned(),
            sender: sender.to_owned(),
            protocol: match protocol {
                "BGP" => Protocol::Bgp,
                "BFD" => Protocol::Bfd,
                other => bail!("{PATH}: no protocol: {other}"),
            },
            octets: octets.collect::<Result<_, _>>()?,
        })
    });
    lines.collect()
}

/// Runs the scenarios of each router in sequence, all routers in parallel.
fn record(scratch: &Scratch, scenarios: &[Scenario]) -> Result<Vec<Line>> {
    let of = |kind: Kind| -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        let selected = scenarios
            .iter()
            .filter(|scenario| !scenario.without.contains(&kind));
        for scenario in selected {
            let name = format!("{kind:?}-{}", scenario.example);
            let scratch = scratch.within(&name)?;
            lines.extend(run(&scratch, kind, scenario).context(name)?);
        }
        Ok(lines)
    };
    std::thread::scope(|scope| {
        let threads = KINDS.map(|kind| scope.spawn(move || of(kind)));
        let mut lines = Vec::new();
        let mut failed = String::new();
        for thread in threads {
            match thread.join() {
                Ok(Ok(recorded)) => lines.extend(recorded),
                Ok(Err(error)) => writeln!(failed, "{error:#}")?,
                Err(_) => writeln!(failed, "a scenario panicked")?,
            }
        }
        ensure!(failed.is_empty(), "{failed}");
        Ok(lines)
    })
}

#[test]
fn routers_send_the_kinds_of_messages_that_the_corpus_has() {
    scenario("corpus", |scratch| {
        program(example::BGP)?; // built before any clock runs
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PATH);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            let lines = record(scratch, SCENARIOS)?;
            return fs::write(path, write(&lines)?).context(PATH);
        }
        let recorded = kinds(&record(scratch, &SCENARIOS[..1])?)?;
        let stored = kinds(&read(&fs::read_to_string(path).context(PATH)?)?)?;
        let example = format!("/{}: ", SCENARIOS[0].example);
        // The number of messages depends on timing, but every router sends an OPEN.
        let missing: Vec<_> = stored
            .difference(&recorded)
            .filter(|kind| kind.contains(&example) && kind.contains("| OPEN"))
            .collect();
        let unknown: Vec<_> = recorded.difference(&stored).collect();
        ensure!(
            missing.is_empty() && unknown.is_empty(),
            "{PATH} differs from the recorded messages; update it with UPDATE_CORPUS=1.\n\
             only in the file: {missing:#?}\nnot in the file: {unknown:#?}"
        );
        Ok(())
    });
}

fn kinds(lines: &[Line]) -> Result<BTreeSet<String>> {
    lines.iter().map(Line::kind).collect()
}
