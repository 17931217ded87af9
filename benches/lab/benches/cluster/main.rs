//! Measures the daemon with a real API server: time from a change of an EndpointSlice to the
//! UPDATE, CPU and memory, time to start and to allocate. Prints one line of JSON per measurement;
//! docs/benchmarks.md describes each.
//!
//! `cargo xtask bench cluster` runs it with 1, 1,000 and 10,000 Services, and then ferrolb beside
//! MetalLB with 100 and 1,000. `cargo xtask bench cluster -- 1000` runs both with 1,000,
//! `cargo xtask bench cluster -- alone 1000` and `… -- beside 1000` one of them.

mod api_client;
mod beside;
mod rate;
mod router;
mod routers;
mod series;
mod status_writes;

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ALLOCATOR_USER, ControlPlane, Ferrolb, Metallb, Nodes};
use ferrolb_interop_tests::netns::NamespaceHandle;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{NODE_ASN, TOR_ASN, Topology};
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::{busy_percent, cpu_share, memory};
use ferrolb_lab_bench::statistics::milliseconds;
use serde_json::json;

use self::api_client::ApiClient;
use self::routers::{Routers, Start};

/// Default numbers of Services.
const SIZES: [usize; 3] = [1, 1000, 10_000];
const PEERS: u8 = 4;
/// How often the announcer is started with all Services.
const STARTS: usize = 5;
/// With fewer Services, a thousand changes a second would change the same few objects repeatedly.
const MIN_FOR_RATE: usize = 1000;

/// Longer than any step takes with few Services.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than creation, allocation and announcement take per Service with many Services.
const TIMEOUT_PER_SERVICE: Duration = Duration::from_millis(30);
/// Wait until ferrolb is idle, before memory is read.
const SETTLED: Duration = Duration::from_secs(3);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments = match Arguments::parse(&arguments) {
        Ok(arguments) => arguments,
        Err(error) => panic!("{error:#}"),
    };
    print_load();
    if arguments.alone {
        scenario("bench", |scratch| {
            let topology = Topology::new(1)?;
            Bench::start(scratch, &topology)?.run(arguments.sizes(&SIZES))
        });
    }
    if arguments.beside {
        beside::run(arguments.sizes(&beside::SIZES));
    }
}

/// The load of the machine by other programs.
fn print_load() {
    match busy_percent(SETTLED) {
        Ok((busy, stolen)) => measurement::print(
            "machine_before",
            &[
                ("busy_percent", json!(busy)),
                ("stolen_percent", json!(stolen)),
            ],
        ),
        Err(error) => panic!("{error:#}"),
    }
}

/// What to measure.
struct Arguments {
    /// ferrolb alone.
    alone: bool,
    /// ferrolb beside MetalLB.
    beside: bool,
    /// Numbers of Services; the defaults if empty.
    sizes: Vec<usize>,
}

impl Arguments {
    fn parse(words: &[String]) -> Result<Self> {
        // Cargo adds `--bench`.
        let words = || words.iter().filter(|word| *word != "--bench");
        let has = |part: &str| words().any(|word| word == part);
        let numbers = words().filter(|word| *word != "alone" && *word != "beside");
        let sizes: Vec<usize> = numbers
            .map(|text| {
                let size = text.replace(['_', ','], "").parse();
                size.with_context(|| {
                    format!(
                        "{text:?} is neither a number of Services, such as 1000, nor \"alone\" \
                         (ferrolb alone) or \"beside\" (beside MetalLB)"
                    )
                })
            })
            .collect::<Result<_>>()?;
        ensure!(
            sizes.is_sorted() && sizes.first().is_none_or(|first| *first > 0),
            "{sizes:?}: give numbers of Services in ascending order, the first at least 1"
        );
        Ok(Self {
            alone: has("alone") || !has("beside"),
            beside: has("beside") || !has("alone"),
            sizes,
        })
    }

    fn sizes<'a>(&'a self, default: &'a [usize]) -> &'a [usize] {
        if self.sizes.is_empty() {
            default
        } else {
            &self.sizes
        }
    }
}

/// Gives the router's host an address for each peer.
fn router_addresses(topology: &Topology) -> Result<Vec<Ipv4Addr>> {
    let addresses: Vec<Ipv4Addr> = (1..=PEERS)
        .map(|host| Ipv4Addr::new(10, 99, 0, host))
        .collect();
    // The topology has assigned the first one.
    for address in &addresses[1..] {
        topology.tor.address("rack", &format!("{address}/24"))?;
    }
    Ok(addresses)
}

fn timeout(services: usize) -> Duration {
    TIMEOUT + TIMEOUT_PER_SERVICE * u32::try_from(services).unwrap_or(u32::MAX)
}

/// The hosts of the benchmark: one node, its routers, a control plane, and ferrolb.
struct Bench<'lab> {
    announcer: Ferrolb<'lab>,
    allocator: Ferrolb<'lab>,
    cp: ControlPlane<'lab>,
    routers: Routers,
    /// The routers' namespace; the API server is reachable from it.
    routers_namespace: NamespaceHandle,
    node: &'lab str,
}

impl<'lab> Bench<'lab> {
    fn start(scratch: &'lab Scratch, topology: &'lab Topology) -> Result<Self> {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.install_ferrolb_rbac()?;
        let node = &topology.nodes[0];
        cp.join(&node.namespace)?;
        cp.join(&topology.tor)?;
        cp.create_node(&node.name, &[node.ipv4.into()])?;
        let addresses = router_addresses(topology)?;
        cp.apply(&configuration(&addresses))?;
        let routers_namespace = topology.tor.open()?;
        Ok(Self {
            routers: Routers::start(&routers_namespace, &addresses)?,
            allocator: Ferrolb::allocator(&cp, "allocator")?,
            announcer: Ferrolb::announcer(&cp, node)?,
            cp,
            routers_namespace,
            node: &node.name,
        })
    }

    fn run(mut self, sizes: &[usize]) -> Result<()> {
        self.announcer.await_ready()?;
        self.allocator.await_ready()?;
        self.routers.await_established(TIMEOUT)?;
        self.print_memory("announcer", 0)?;
        self.print_memory("allocator", 0)?;
        let mut before = 0;
        for services in sizes.iter().copied() {
            self.allocate(before, services)?;
            self.print_memory("allocator", services)?;
            for run in 1..=STARTS {
                self.start_announcer(run, services)?;
            }
            self.series(services)?;
            self.print_memory("announcer", services)?;
            if services >= MIN_FOR_RATE {
                self.rate(services)?;
            }
            before = services;
        }
        Ok(())
    }

    fn create(&self, indices: std::ops::Range<usize>) -> Result<()> {
        let kubeconfig = self.cp.admin_kubeconfig();
        self.routers_namespace
            .inside(|| ApiClient::new(&kubeconfig)?.create(self.node, indices))
    }

    fn print_memory(&mut self, role: &str, services: usize) -> Result<()> {
        sleep(SETTLED);
        let process = match role {
            "announcer" => &mut self.announcer,
            _ => &mut self.allocator,
        };
        let memory = memory(process.process().pid())?;
        measurement::print(
            "memory",
            &[
                ("role", json!(role)),
                ("services", json!(services)),
                ("peers", json!(PEERS)),
                ("vm_rss_kib", json!(memory.now)),
                ("vm_hwm_kib", json!(memory.peak)),
            ],
        );
        Ok(())
    }

    /// Creates Services up to a number, measures the status writes of a bare client, then starts
    /// the allocator and measures how it allocates addresses.
    fn allocate(&mut self, before: usize, services: usize) -> Result<()> {
        let timeout = timeout(services);
        self.allocator.process().terminate(TIMEOUT)?;
        self.announcer.process().terminate(TIMEOUT)?;
        self.routers.await_closed(TIMEOUT)?;
        self.create(before..services)?;
        let kubeconfig = self.cp.admin_kubeconfig();
        self.routers_namespace
            .inside(|| status_writes::measure(&ApiClient::new(&kubeconfig)?, before..services))?;
        self.announcer.start_again()?;
        self.routers.await_prefixes(before, TIMEOUT)?;
        let written_before = self.status_writes()?.len();
        let started = jiff::Timestamp::now();
        self.allocator.start_again()?;
        self.routers.await_prefixes(services, timeout)?;
        // The API server writes its audit log shortly after the response.
        let times = eventually("a write for each Service", TIMEOUT, || {
            let times = self.status_writes()?.split_off(written_before);
            ensure!(times.len() >= services - before, "{}", times.len());
            anyhow::Ok(times)
        })?;
        let first = times.iter().min().context("no write")?;
        let last = times.iter().max().context("no write")?;
        measurement::print(
            "allocation",
            &[
                ("new_services", json!(services - before)),
                ("status_writes", json!(times.len())),
                (
                    "start_to_first_write_ms",
                    json!(milliseconds(first.duration_since(started).unsigned_abs())),
                ),
                (
                    "first_to_last_write_ms",
                    json!(milliseconds(last.duration_since(*first).unsigned_abs())),
                ),
            ],
        );
        Ok(())
    }

    /// Times at which the API server received the allocator's writes of Services.
    fn status_writes(&self) -> Result<Vec<jiff::Timestamp>> {
        let writes = self.cp.writes()?;
        let of_services = writes
            .iter()
            .filter(|write| write.user == ALLOCATOR_USER && write.resource == "services/status");
        of_services.map(|write| Ok(write.at.parse()?)).collect()
    }

    /// Measures the announcer from its start to the last prefix on the last router; all Services
    /// have addresses before.
    fn start_announcer(&mut self, run: usize, services: usize) -> Result<()> {
        self.announcer.process().terminate(TIMEOUT)?;
        self.routers.await_closed(TIMEOUT)?;
        let started = Instant::now();
        self.announcer.start_again()?;
        let Start {
            established,
            first_prefix,
            all_prefixes,
            end_of_rib,
        } = self.routers.await_table(services, TIMEOUT)?;
        sleep(SETTLED);
        let memory = memory(self.announcer.process().pid())?;
        let since = |at: Instant| milliseconds(at.duration_since(started));
        measurement::print(
            "announcer_start",
            &[
                ("run", json!(run)),
                ("services", json!(services)),
                ("peers", json!(PEERS)),
                ("all_established_ms", json!(since(established))),
                ("first_prefix_ms", json!(since(first_prefix))),
                ("all_prefixes_on_all_peers_ms", json!(since(all_prefixes))),
                ("all_end_of_rib_ms", json!(since(end_of_rib))),
                ("vm_rss_kib", json!(memory.now)),
                ("vm_hwm_kib", json!(memory.peak)),
            ],
        );
        Ok(())
    }

    fn series(&mut self, services: usize) -> Result<()> {
        let addresses = self.cp.service_addresses("default", &api_client::name(0))?;
        let address = *addresses.first().context("no address")?;
        let kubeconfig = self.cp.admin_kubeconfig();
        let pid = self.announcer.process().pid();
        let idle = cpu_share(pid, SETTLED)?;
        let (namespace, routers, node) = (&self.routers_namespace, &mut self.routers, self.node);
        let series = namespace.inside(|| {
            let watched = api_client::watch(namespace, &kubeconfig, 0)?;
            let api = ApiClient::new(&kubeconfig)?;
            let mut measurement = series::Measurement {
                api: &api,
                watched: &watched,
                routers,
                node,
                prefix: address.into(),
                pid,
                idle,
            };
            measurement.run()
        })?;
        series.print(services, PEERS);
        Ok(())
    }

    fn rate(&mut self, services: usize) -> Result<()> {
        let kubeconfig = self.cp.admin_kubeconfig();
        let pid = self.announcer.process().pid();
        let (namespace, routers, node) = (&self.routers_namespace, &mut self.routers, self.node);
        namespace.inside(|| {
            let api = ApiClient::new(&kubeconfig)?;
            rate::measure(&api, routers, node, services, pid)
        })
    }
}

fn configuration(routers: &[Ipv4Addr]) -> String {
    let peers = routers.iter().enumerate().map(|(index, address)| {
        format!(
            "
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: tor{index}, namespace: metallb-system}}
spec: {{myASN: {NODE_ASN}, peerASN: {TOR_ASN}, peerAddress: {address}}}
---"
        )
    });
    peers.collect::<String>()
        + "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [198.18.0.0/16]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
"
}
