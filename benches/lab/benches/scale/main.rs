//! Measures what grows with the number of nodes: memory of each process, what a change of an object
//! costs it, the decisions of the leading allocator, and commands on a laptop. Prints one line of
//! JSON per measurement; docs/benchmarks.md describes each, and docs/scale.md computes with them.
//!
//! `cargo xtask bench scale` runs it with 10, 100, 1,000 and 5,000 nodes, `cargo xtask bench scale
//! -- 10 100` with others.

mod api;
mod client;
mod leader;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Nodes};
use ferrolb_interop_tests::manifest::{NAMESPACE, ferrolb_peer, join, memberlist_secret};
use ferrolb_interop_tests::netns::{Namespace, NamespaceHandle};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::{cpu_time, memory};
use ferrolb_lab_bench::statistics::rounded;
use serde_json::json;

use self::api::{ApiClient, ENDPOINTS, LARGE, LARGE_ENDPOINTS, service};

const SIZES: [usize; 4] = [10, 100, 1000, 5000];
const SERVICES: usize = 1000;
/// The largest cluster on which commands run: they decide for each node and Service.
const COMMANDS_MAX: usize = 1000;
/// Changes of each kind, and the pause between two of them.
const CHANGES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_secs(120);
/// The interface of the management network.
const INTERFACE: &str = "mgmt0";
/// The host of the allocator.
const ALLOCATOR: &str = "allocator";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let sizes = match sizes(&words) {
        Ok(sizes) => sizes,
        Err(error) => panic!("{error:#}"),
    };
    scenario("bench-scale", |scratch| {
        let topology = Topology::new(1)?;
        Bench::start(scratch, &topology)?.run(&sizes)
    });
}

fn sizes(words: &[String]) -> Result<Vec<usize>> {
    // Cargo adds `--bench`.
    let words = words.iter().filter(|word| *word != "--bench");
    let sizes = words.map(|word| {
        word.parse::<usize>()
            .with_context(|| format!("{word:?} is not a number of nodes, such as 1000"))
    });
    let sizes: Vec<usize> = sizes.collect::<Result<_>>()?;
    ensure!(
        sizes.is_sorted() && sizes.first().is_none_or(|first| *first >= ENDPOINTS),
        "{sizes:?}: give numbers of nodes in ascending order, the first at least {ENDPOINTS}"
    );
    Ok(if sizes.is_empty() {
        SIZES.to_vec()
    } else {
        sizes
    })
}

/// One host, a control plane, and ferrolb's processes one after the other.
struct Bench<'lab> {
    cp: ControlPlane<'lab>,
    topology: &'lab Topology,
    /// From where the client reaches the API server.
    outside: NamespaceHandle,
}

/// The roles in the order in which they are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Allocator,
    Announcer,
    Layer2,
}

impl Role {
    const ALL: [Self; 3] = [Self::Announcer, Self::Layer2, Self::Allocator];

    fn name(self) -> &'static str {
        match self {
            Self::Allocator => "allocator",
            Self::Announcer => "announcer",
            Self::Layer2 => "layer2",
        }
    }
}

impl<'lab> Bench<'lab> {
    fn start(scratch: &'lab Scratch, topology: &'lab Topology) -> Result<Self> {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_crds()?;
        cp.install_ferrolb_rbac()?;
        let node = &topology.nodes[0];
        cp.join(&node.namespace)?;
        cp.join(&topology.tor)?;
        cp.create_node(&node.name, &[node.ipv4.into()])?;
        let own = |kind: &str, spec: &str| {
            format!(
                "apiVersion: ferrolb.io/v1alpha1\nkind: {kind}\nmetadata: {{name: public, \
                 namespace: {NAMESPACE}}}\nspec: {{{spec}}}\n"
            )
        };
        cp.apply(&join(&[
            &ferrolb_peer(TOR_IPV4, ""),
            &own("IPAddressPool", "addresses: [198.18.0.0/16]"),
            &own("BGPAdvertisement", "ipAddressPools: [public]"),
            &memberlist_secret("0123456789abcdef0123456789abcdef"),
        ]))?;
        Ok(Self {
            outside: topology.tor.open()?,
            cp,
            topology,
        })
    }

    fn run(self, sizes: &[usize]) -> Result<()> {
        // The host exists already.
        let mut before = 1;
        for nodes in sizes.iter().copied() {
            self.with_client(|api| api.create_nodes(before..nodes))?;
            if before == 1 {
                self.with_client(|api| api.create_services(SERVICES))?;
                self.allocate()?;
                self.print_objects()?;
            }
            for role in Role::ALL {
                self.measure(role, nodes)?;
            }
            if nodes <= COMMANDS_MAX {
                client::measure(&self.cp, nodes, SERVICES)?;
            }
            before = nodes;
        }
        Ok(())
    }

    fn with_client<T: Send>(&self, work: impl FnOnce(&ApiClient) -> Result<T> + Send) -> Result<T> {
        let kubeconfig = self.cp.admin_kubeconfig();
        self.outside.inside(|| work(&ApiClient::new(&kubeconfig)?))
    }

    /// Gives all Services addresses.
    fn allocate(&self) -> Result<()> {
        let _allocator = Ferrolb::allocator(&self.cp, ALLOCATOR)?;
        eventually("all addresses", TIMEOUT, || {
            self.with_client(ApiClient::ensure_addresses)
        })
    }

    fn print_objects(&self) -> Result<()> {
        let octets = self.with_client(|api| {
            Ok([
                ("Node", api.node_octets(1)?),
                ("EndpointSlice of 10", api.slice_octets(&service(0))?),
                ("EndpointSlice of 100", api.slice_octets(LARGE)?),
            ])
        })?;
        for (object, octets) in octets {
            measurement::print(
                "scale_objects",
                &[("object", json!(object)), ("octets", json!(octets))],
            );
        }
        Ok(())
    }

    fn measure(&self, role: Role, nodes: usize) -> Result<()> {
        let host = &self.topology.nodes[0];
        let mut process = match role {
            Role::Allocator => Ferrolb::allocator(&self.cp, ALLOCATOR)?,
            Role::Announcer => Ferrolb::announcer(&self.cp, host)?,
            Role::Layer2 => {
                self.cp.apply(&layer2())?;
                Ferrolb::layer2(&self.cp, host)?
            }
        };
        // With many nodes, a list takes longer than a test waits.
        eventually("ready", TIMEOUT, || {
            process.process().ensure_running()?;
            process.get("/readyz")
        })?;
        if role == Role::Allocator {
            process.await_log(&["became leader"], TIMEOUT)?;
        }
        let pid = process.process().pid();
        leader::cpu_until_idle(pid)?;
        let memory = memory(pid)?;
        measurement::print(
            "scale_memory",
            &[
                ("role", json!(role.name())),
                ("nodes", json!(nodes)),
                ("services", json!(SERVICES)),
                ("vm_rss_kib", json!(memory.now)),
                ("vm_hwm_kib", json!(memory.peak)),
            ],
        );
        let heartbeat = |api: &ApiClient, number: usize| api.heartbeat(number % nodes);
        self.changes((&process, pid), role, nodes, "Node status", heartbeat)?;
        for (name, endpoints) in [(service(0), ENDPOINTS), (LARGE.to_owned(), LARGE_ENDPOINTS)] {
            let what = format!("EndpointSlice of {endpoints}");
            let change =
                |api: &ApiClient, number: usize| api.set_ready(&name, endpoints, number % 2 == 1);
            self.changes((&process, pid), role, nodes, &what, change)?;
        }
        if role == Role::Allocator {
            leader::measure(&self.cp, pid, nodes, SERVICES, |change| {
                self.with_client(change)
            })?;
        }
        process.process().terminate(TIMEOUT)?;
        if role == Role::Layer2 {
            let name = "l2advertisements.ferrolb.io";
            self.cp
                .kubectl(&["delete", name, "public", "-n", NAMESPACE])?;
        }
        Ok(())
    }

    /// What changes of an object cost a process: octets that it receives, and CPU time.
    fn changes(
        &self,
        (process, pid): (&Ferrolb<'_>, u32),
        role: Role,
        nodes: usize,
        what: &str,
        change: impl Fn(&ApiClient, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let host = process.host();
        let (octets, cpu) = (received(host)?, cpu_time(pid)?);
        self.with_client(|api| {
            for number in 0..CHANGES {
                change(api, number)?;
                sleep(PAUSE);
            }
            Ok(())
        })?;
        leader::cpu_until_idle(pid)?;
        let cpu = cpu_time(pid)?.saturating_sub(cpu).as_secs_f64() * 1e3;
        let octets = received(host)? - octets;
        let per_change = |total: f64| json!(rounded(total / CHANGES as f64));
        measurement::print(
            "scale_change",
            &[
                ("role", json!(role.name())),
                ("nodes", json!(nodes)),
                ("change", json!(what)),
                ("octets_per_change", per_change(octets as f64)),
                ("cpu_ms_per_change", per_change(cpu)),
            ],
        );
        Ok(())
    }
}

fn layer2() -> String {
    format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: L2Advertisement
metadata: {{name: public, namespace: {NAMESPACE}}}
spec: {{ipAddressPools: [public], interfaces: [uplink]}}
"
    )
}

/// The octets that a host has received from the API server.
fn received(host: &Namespace) -> Result<u64> {
    let links = host.json("ip", &["-j", "-s", "link", "show", INTERFACE])?;
    let octets = links[0]["stats64"]["rx"]["bytes"].as_u64();
    octets.with_context(|| format!("no counter of {INTERFACE}"))
}

/// The time that a piece of work takes.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let started = Instant::now();
    let result = work()?;
    Ok((result, started.elapsed()))
}
