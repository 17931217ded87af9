//! Measures what clients lose while ferrolb, MetalLB or keepalived moves layer-2 addresses between
//! nodes. Prints one line of JSON per measurement; docs/benchmarks.md describes each.
//!
//! `cargo xtask bench layer2` makes 20 trials of each kind, `cargo xtask bench layer2 -- 3` makes
//! three.

mod owners;
mod systems;

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Load, Metallb, Nodes, Report};
use ferrolb_interop_tests::manifest::{join, layer2_advertisement, pool, service};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::statistics::median;
use serde_json::json;

use self::owners::{await_owners, moved, owner_of, owners};
use self::systems::{Member, System, remove_addresses};

const NODES: u8 = 3;
/// The addresses of the Services. The client measures the first one.
pub(crate) const ADDRESSES: [Ipv4Addr; 9] = [
    Ipv4Addr::new(10, 99, 0, 100),
    Ipv4Addr::new(10, 99, 0, 101),
    Ipv4Addr::new(10, 99, 0, 102),
    Ipv4Addr::new(10, 99, 0, 103),
    Ipv4Addr::new(10, 99, 0, 104),
    Ipv4Addr::new(10, 99, 0, 105),
    Ipv4Addr::new(10, 99, 0, 106),
    Ipv4Addr::new(10, 99, 0, 107),
    Ipv4Addr::new(10, 99, 0, 108),
];
/// New connections per second: the resolution is 10 ms.
const NEW_PER_SECOND: u32 = 100;
/// Connections that stay open.
const LONG_LIVED: u32 = 50;
/// How long the client runs before the disruption.
const BEFORE: Duration = Duration::from_secs(1);
/// How long a killed process stays away.
const RESTART: Duration = Duration::from_secs(1);

fn main() {
    let trials = trials();
    scenario("bench-layer2", |scratch| {
        let topology = Topology::new(NODES)?;
        let bench = Bench::start(scratch, &topology)?;
        for system in System::ALL {
            bench.run(system, trials)?;
        }
        Ok(())
    });
}

/// The number of trials from the arguments. Cargo adds `--bench`.
fn trials() -> usize {
    let mut arguments = std::env::args().skip(1).filter(|text| text != "--bench");
    arguments.find_map(|text| text.parse().ok()).unwrap_or(20)
}

/// A disruption of the node that owns the measured address.
#[derive(Clone, Copy, Debug)]
enum Disruption {
    /// The node sends and receives nothing any more.
    Death,
    /// The process is killed and starts again after [`RESTART`]; the node forwards on.
    Kill,
    /// The process is stopped in order, and starts again after the traffic.
    Stop,
    /// The process is replaced by a new one, as a rollout of its DaemonSet does.
    Rollout,
    /// The node gets the label that excludes it from load balancers.
    Exclude,
}

impl Disruption {
    /// What is measured with a program. keepalived has no rollout and reads no labels.
    const fn of(system: System) -> &'static [Self] {
        match system {
            System::Ferrolb | System::Metallb => &[
                Self::Death,
                Self::Kill,
                Self::Stop,
                Self::Rollout,
                Self::Exclude,
            ],
            System::Keepalived(_) => &[Self::Death, Self::Kill, Self::Stop],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Death => "node dead",
            Self::Kill => "process killed, back after 1 s",
            Self::Stop => "process stopped",
            Self::Rollout => "rollout",
            Self::Exclude => "node excluded",
        }
    }
}

struct Bench<'lab> {
    scratch: &'lab Scratch,
    topology: &'lab Topology,
    cp: ControlPlane<'lab>,
    _data_path: DataPath,
}

/// What one trial shows.
struct Trial {
    report: Report,
    /// Addresses that moved when the node came back.
    moved_on_return: usize,
    /// Write requests to the API server, from the disruption to the return.
    writes: usize,
}

impl<'lab> Bench<'lab> {
    fn start(scratch: &'lab Scratch, topology: &'lab Topology) -> Result<Self> {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        // MetalLB 0.14.9 reads these; ferrolb reads the same.
        cp.install_metallb_crds(Metallb::V0_14_9)?;
        cp.install_ferrolb_rbac()?;
        let data_path = DataPath::start(&cp, &topology.nodes, "web")?;
        cp.prepare_metallb_speakers(&topology.nodes)?;
        cp.apply(&configuration())?;
        for (index, address) in ADDRESSES.iter().enumerate() {
            cp.set_service_addresses("default", &format!("web{index}"), &[(*address).into()])?;
        }
        Ok(Self {
            scratch,
            topology,
            cp,
            _data_path: data_path,
        })
    }

    fn run(&self, system: System, trials: usize) -> Result<()> {
        let mut members = Vec::new();
        for node in &self.topology.nodes {
            members.push(Member::start(system, self.scratch, &self.cp, node)?);
        }
        await_owners(self.topology)?;
        sleep(system.settling());
        for &disruption in Disruption::of(system) {
            let mut results = Vec::new();
            for _ in 0..trials {
                results.push(self.trial(system, &mut members, disruption)?);
            }
            print(system, disruption, &results);
        }
        for (member, node) in members.iter_mut().zip(&self.topology.nodes) {
            member.kill()?;
            remove_addresses(node);
        }
        Ok(())
    }

    fn trial(
        &self,
        system: System,
        members: &mut [Member<'lab>],
        disruption: Disruption,
    ) -> Result<Trial> {
        let position = owner_of(self.topology, ADDRESSES[0])?.context("no node answers")?;
        let node = self.topology.nodes.get(position).context("owner")?;
        let member = members.get_mut(position).context("owner")?;
        let writes = self.cp.writes()?.len();
        let target = SocketAddr::new(ADDRESSES[0].into(), 80);
        let load = Load::start(&self.topology.tor, target, NEW_PER_SECOND, LONG_LIVED)?;
        sleep(BEFORE);
        match disruption {
            Disruption::Death => {
                node.uplink.cut()?;
                member.kill()?;
            }
            Disruption::Kill => {
                member.kill()?;
                sleep(RESTART);
                member.start_again()?;
            }
            Disruption::Stop => member.terminate()?,
            Disruption::Rollout => member.replace(&self.cp, node)?,
            Disruption::Exclude => self.cp.exclude_node(&node.name, true)?,
        }
        sleep(system.failover(disruption));
        let report = load.stop()?;
        let before = owners(self.topology)?;
        match disruption {
            Disruption::Death => {
                remove_addresses(node);
                node.uplink.restore()?;
                member.start_again()?;
            }
            Disruption::Kill | Disruption::Rollout => {}
            Disruption::Stop => member.start_again()?,
            Disruption::Exclude => self.cp.exclude_node(&node.name, false)?,
        }
        sleep(system.settling());
        await_owners(self.topology)?;
        let moved_on_return = moved(&before, &owners(self.topology)?);
        Ok(Trial {
            report,
            moved_on_return,
            writes: self.cp.writes()?.len() - writes,
        })
    }
}

fn configuration() -> String {
    let services: Vec<String> = (0..ADDRESSES.len())
        .map(|index| service(&format!("web{index}"), "", ""))
        .collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let advertisement = layer2_advertisement("interfaces: [uplink]");
    let pool = pool("10.99.0.100-10.99.0.199");
    join(&[&pool, &advertisement, &join(&services)])
}

fn print(system: System, disruption: Disruption, trials: &[Trial]) {
    let gaps = || trials.iter().map(|trial| trial.report.longest_gap_ms);
    let sum = |of: fn(&Trial) -> u64| trials.iter().map(of).sum::<u64>();
    let gap = median(gaps().map(|gap| gap as f64));
    measurement::print(
        "layer2",
        &[
            ("system", json!(system.name())),
            ("event", json!(disruption.name())),
            ("trials", json!(trials.len())),
            ("gap_ms_p50", json!(gap)),
            ("gap_ms_max", json!(gaps().max())),
            (
                "requests",
                json!(sum(|t| t.report.total_answered() + t.report.failed)),
            ),
            ("failed", json!(sum(|t| t.report.failed))),
            ("long_lived", json!(sum(|t| t.report.long_lived))),
            ("broken", json!(sum(|t| t.report.broken))),
            ("moved_on_return", json!(sum(|t| t.moved_on_return as u64))),
            ("api_writes", json!(sum(|t| t.writes as u64))),
        ],
    );
}
