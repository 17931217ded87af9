//! What clients lose in failures that the benchmarks don't measure, with graceful restart and BFD,
//! and by layer 2. Each failure must end: afterwards no request fails. UPDATE_DOCS=1 writes the
//! seconds into docs/failures.md.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::document::{Row, publish};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{Load, Report};
use ferrolb_interop_tests::lan::{Host, LanCluster};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Kind, Router, await_kernel};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology, ipv4_addresses};

const DOCUMENT: &str = "docs/failures.md";
/// The address of the Service, announced by BGP and by layer 2.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 200));
const NODES: [usize; 3] = [0, 1, 2];
/// Time of traffic before a failure.
const WARM_UP: Duration = Duration::from_secs(1);
/// Until a failure is over. A session that BFD ended three times is opened after up to 20 s.
const TIMEOUT: Duration = Duration::from_secs(90);
const NEW_PER_SECOND: u32 = 100;
const OPEN: u32 = 50;

/// What fails: the node that owns the address by layer 2, or what it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Power,
    Flap,
    Paused,
    Killed,
    Stopped,
    Switch,
    Stranger,
}

impl Failure {
    /// The name of its row.
    const fn name(self) -> &'static str {
        match self {
            Self::Power => "a node loses power, and its port loses its carrier",
            Self::Flap => "the link of a node loses every packet for 1 s",
            Self::Paused => "ferrolb's processes on a node stand still for 5 s",
            Self::Killed => "ferrolb's processes on a node are killed, and don't come back",
            Self::Stopped => "ferrolb's processes on a node are stopped, and don't come back",
            Self::Switch => "the switch of all nodes and of the router is away for 5 s",
            Self::Stranger => "another host takes the address",
        }
    }

    /// Whether it concerns a client behind the router.
    fn concerns_bgp(self) -> bool {
        self != Self::Stranger
    }

    /// Time of traffic after it: until its effects are over.
    const fn observed(self) -> Duration {
        Duration::from_secs(match self {
            Self::Flap | Self::Paused | Self::Stranger => 4,
            Self::Power | Self::Killed => 6,
            // Peers wait 10 s for a process that said that it restarts.
            Self::Stopped => 14,
            Self::Switch => 10,
        })
    }
}

/// A cluster that announces one address by BGP and by layer 2, each with a client.
struct Lab<'lab> {
    rack: &'lab Topology,
    router: Box<dyn Router + 'lab>,
    announcers: Vec<Process>,
    lan: LanCluster<'lab>,
    stranger: Host,
}

/// FRR, with graceful restart and BFD, for three nodes and for addresses of the LAN.
fn router<'lab>(scratch: &'lab Scratch, rack: &'lab Topology) -> Result<Box<dyn Router + 'lab>> {
    let second = " neighbor 10.99.0.12 peer-group NODES\n";
    let third = second.replace(".12", ".13");
    let edits = [
        (
            "192.0.2.0/24 le 32".to_owned(),
            "10.99.0.192/26 le 32".to_owned(),
        ),
        (second.to_owned(), format!("{second}{third}")),
    ];
    Kind::Frr.edited(scratch, &rack.tor, "router-restart", &edits)
}

impl<'lab> Lab<'lab> {
    fn start(scratch: &'lab Scratch, rack: &'lab Topology) -> Result<Self> {
        let mut router = router(scratch, rack)?;
        router.start()?;
        let mut lan = LanCluster::new(scratch, rack, &[ADDRESS], "")?;
        let peer = ", enableGracefulRestart: true, bfdProfile: fast";
        let bgp = manifest::join(&[
            &manifest::metallb_peer(peer),
            &manifest::bfd_profile(),
            &manifest::advertisement(""),
        ]);
        lan.folder.write("bgp.yaml", &bgp)?;
        NODES.iter().try_for_each(|&node| lan.start_daemon(node))?;
        let nodes = rack.nodes.iter();
        let announcers = nodes.map(|node| lan.folder.run_beside(node, "announcer"));
        let announcers = announcers.collect::<Result<_>>()?;
        lan.await_peers(&NODES)?;
        lan.write_services()?;
        Ok(Self {
            rack,
            router,
            announcers,
            stranger: Host::new(rack, "stranger", 120)?,
            lan,
        })
    }

    /// Waits until every node has a session and one owns the address, and returns that one.
    fn await_intact(&self) -> Result<usize> {
        let nodes: Vec<&Node> = self.rack.nodes.iter().collect();
        let prefix = format!("{ADDRESS}/32");
        await_kernel(&self.rack.tor, &prefix, &ipv4_addresses(&nodes), TIMEOUT)
            .with_context(|| self.router.name())?;
        let owner = self.lan.await_owners(&NODES)?[&ADDRESS];
        self.await_answers(self.rack.client()?)?;
        self.await_answers(&self.lan.client.namespace)?;
        Ok(owner)
    }

    /// Waits until no new connection of a client fails.
    fn await_answers(&self, client: &Namespace) -> Result<()> {
        eventually(format!("answers at {ADDRESS}"), TIMEOUT, || {
            let load = Load::start(client, SocketAddr::new(ADDRESS, 80), 50, 0)?;
            sleep(Duration::from_millis(600));
            let report = load.stop()?;
            ensure!(report.failed == 0, "{report:?}");
            Ok(())
        })
    }

    fn inject(&mut self, failure: Failure, node: usize) -> Result<()> {
        let Self {
            lan, announcers, ..
        } = self;
        match failure {
            Failure::Power => {
                lan.power_off(node)?;
                announcers[node].kill()
            }
            Failure::Flap => {
                let uplink = &self.rack.nodes[node].uplink;
                uplink.cut()?;
                sleep(Duration::from_secs(1));
                uplink.restore()
            }
            Failure::Paused => {
                lan.daemon(node)?.suspend()?;
                announcers[node].suspend()?;
                sleep(Duration::from_secs(5));
                lan.daemon(node)?.resume()?;
                announcers[node].resume()
            }
            Failure::Killed => {
                lan.kill_daemon(node)?;
                announcers[node].kill()
            }
            Failure::Stopped => {
                lan.stop_daemon(node)?;
                announcers[node].terminate(TIMEOUT).map(drop)
            }
            Failure::Switch => {
                lan.switch().black_out()?;
                sleep(Duration::from_secs(5));
                lan.switch().heal()
            }
            Failure::Stranger => {
                let host = &self.stranger.namespace;
                host.address("uplink", &format!("{ADDRESS}/24"))?;
                let address = ADDRESS.to_string();
                let announce = ["-q", "-U", "-c", "1", "-I", "uplink", &address];
                host.run("arping", &announce).map(drop)
            }
        }
    }

    fn revert(&mut self, failure: Failure, node: usize) -> Result<()> {
        match failure {
            Failure::Flap | Failure::Paused | Failure::Switch => return Ok(()),
            Failure::Stranger => {
                let address = format!("{ADDRESS}/24");
                let delete = ["addr", "del", &address, "dev", "uplink"];
                return self.stranger.namespace.ip(&delete).map(drop);
            }
            Failure::Power => {
                self.lan.power_on(node)?;
                let host = &self.rack.nodes[node].namespace;
                host.route("default", &TOR_IPV4.to_string())?;
            }
            Failure::Killed | Failure::Stopped => self.lan.start_daemon(node)?,
        }
        let node_of_rack = &self.rack.nodes[node];
        self.announcers[node] = self.lan.folder.run_beside(node_of_rack, "announcer")?;
        Ok(())
    }

    /// What both clients lose.
    fn measure(&mut self, failure: Failure) -> Result<Row> {
        let owner = self.await_intact()?;
        let target = SocketAddr::new(ADDRESS, 80);
        let behind_router = Load::start(self.rack.client()?, target, NEW_PER_SECOND, OPEN)?;
        let client = &self.lan.client.namespace;
        let on_lan = Load::start(client, target, NEW_PER_SECOND, OPEN)?;
        sleep(WARM_UP);
        self.inject(failure, owner)?;
        sleep(failure.observed());
        let [bgp, layer2] = [behind_router.stop()?, on_lan.stop()?];
        self.revert(failure, owner)?;
        let [new, open] = cells(&bgp)?;
        let bgp = if failure.concerns_bgp() {
            [new, open]
        } else {
            ["–".to_owned(), "–".to_owned()]
        };
        Ok(Row {
            name: failure.name().to_owned(),
            cells: [bgp, cells(&layer2)?].concat(),
        })
    }
}

/// For how long new connections failed, and how many open ones broke.
fn cells(report: &Report) -> Result<[String; 2]> {
    ensure!(report.long_lived == u64::from(OPEN), "{report:?}");
    let new = match (report.failed, report.failing_ms) {
        (0, _) => "0".to_owned(),
        (_, 0..50) => "under 0.1 s".to_owned(),
        (_, milliseconds) => {
            let tenths = milliseconds.div_ceil(100);
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
    };
    Ok([new, format!("{} of {OPEN}", report.broken)])
}

/// Measures failures one after the other.
fn measure(scratch: &Scratch, failures: &[Failure]) -> Result<Vec<Row>> {
    let mut rack = Topology::new(3)?;
    rack.add_client()?;
    let mut lab = Lab::start(scratch, &rack)?;
    let mut rows = Vec::new();
    for &failure in failures {
        let row = lab.measure(failure).with_context(|| failure.name())?;
        println!("{row:?}");
        rows.push(row);
    }
    lab.await_intact().context("after the last failure")?;
    Ok(rows)
}

#[test]
fn each_failure_ends_and_what_clients_lose_is_published() {
    scenario("failures", |scratch| {
        let halves = [
            [
                Failure::Stranger,
                Failure::Flap,
                Failure::Paused,
                Failure::Power,
            ]
            .as_slice(),
            &[Failure::Killed, Failure::Switch, Failure::Stopped],
        ];
        let measured = thread::scope(|scope| {
            let threads = [0, 1].map(|half| {
                scope.spawn(move || measure(&scratch.within(&half.to_string())?, halves[half]))
            });
            threads.map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        let [first, second] = measured;
        publish(DOCUMENT, &[first?, second?].concat())
    });
}
