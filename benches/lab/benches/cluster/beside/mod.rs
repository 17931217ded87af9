//! ferrolb beside MetalLB 0.14.9 in native mode: one after the other in a new cluster each, with
//! the same objects, routers and requests.

mod program;
mod restart;
mod results;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Metallb, Nodes, Write};
use ferrolb_interop_tests::netns::NamespaceHandle;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use ferrolb_lab_bench::proc_stats::{cpu_share, memory};
use ferrolb_lab_bench::statistics::{median, milliseconds, percentile};

use self::program::{Program, System};
use self::results::Row;
use crate::api_client::{self, ApiClient};
use crate::routers::Routers;
use crate::{PEERS, SETTLED, TIMEOUT, configuration, router_addresses, series};

/// Default numbers of Services. MetalLB takes a quarter of an hour with 10,000.
pub(crate) const SIZES: [usize; 2] = [100, 1000];
/// Up to this number all rows are measured; with more Services only allocation, memory and start,
/// since the programs write Events for minutes, and MetalLB takes minutes for each row.
const MAX_FOR_ALL: usize = 1000;
/// How often the announcer is started.
const STARTS: usize = 5;
/// Services that are created one at a time.
const CREATED: usize = 25;
/// The pause before each: long enough that MetalLB, whose clients are limited to a few requests a
/// second, has no request left to make.
const PAUSE: Duration = Duration::from_secs(3);
/// MetalLB allocates 10,000 addresses in about six minutes.
const TIMEOUT_PER_SERVICE: Duration = Duration::from_millis(150);
/// Events are written after the other writes, at a limited rate.
const NO_MORE_WRITES: Duration = Duration::from_secs(5);

/// Measures both systems, and prints the table.
pub(crate) fn run(sizes: &[usize]) {
    // MetalLB first: if it can't run here, that shows at once.
    let [metallb, ferrolb] = [System::Metallb, System::Ferrolb].map(|system| {
        let mut rows = Vec::new();
        for &services in sizes {
            // A new cluster: deleted Services keep MetalLB's controller busy for a while.
            scenario("beside", |scratch| {
                let topology = Topology::new(1)?;
                let measured = Bench::start(system, scratch, &topology)?.run(services)?;
                report(system, &measured);
                rows.extend(measured);
                Ok(())
            });
        }
        scenario("beside-restart", |scratch| {
            let restart = restart::measure(system, scratch)?;
            report(system, &restart);
            rows.extend(restart);
            Ok(())
        });
        rows
    });
    if let Err(error) = results::print(&ferrolb, &metallb) {
        panic!("{error:#}");
    }
}

/// Shows the progress of a run that takes long.
fn report(system: System, rows: &[Row]) {
    for row in rows {
        eprintln!("{system:?}: {row:?}");
    }
}

fn timeout(services: usize) -> Duration {
    TIMEOUT + TIMEOUT_PER_SERVICE * u32::try_from(services).unwrap_or(u32::MAX)
}

/// One node with a system, and its routers.
struct Bench<'lab> {
    announcer: Program<'lab>,
    allocator: Program<'lab>,
    cp: ControlPlane<'lab>,
    routers: Routers,
    /// The routers' namespace; the API server is reachable from it.
    routers_namespace: NamespaceHandle,
    node: &'lab str,
}

impl<'lab> Bench<'lab> {
    fn start(system: System, scratch: &'lab Scratch, topology: &'lab Topology) -> Result<Self> {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_14_9)?;
        let node = &topology.nodes[0];
        cp.join(&node.namespace)?;
        cp.join(&topology.tor)?;
        cp.create_node(&node.name, &[node.ipv4.into()])?;
        system.prepare(&cp, &topology.nodes)?;
        let addresses: Vec<Ipv4Addr> = router_addresses(topology)?;
        cp.apply(&configuration(&addresses))?;
        let routers_namespace = topology.tor.open()?;
        Ok(Self {
            routers: Routers::start(&routers_namespace, &addresses)?,
            allocator: Program::allocator(system, scratch, &cp)?,
            announcer: Program::announcer(system, scratch, &cp, node)?,
            cp,
            routers_namespace,
            node: &node.name,
        })
    }

    fn run(mut self, services: usize) -> Result<Vec<Row>> {
        self.routers.await_established(TIMEOUT)?;
        let mut rows = self.allocate(services)?;
        rows.extend(self.memory(services)?);
        let starts = if services > MAX_FOR_ALL { 1 } else { STARTS };
        rows.extend(self.starts(starts, services)?);
        if services <= MAX_FOR_ALL {
            // Both write Events about what they announce, at a limited rate.
            self.await_last_write()?;
            rows.extend(self.endpoint_slice_changes(services)?);
            rows.push(self.new_services(services)?);
        }
        Ok(rows)
    }

    /// Runs requests from the routers' namespace.
    fn inside<T: Send>(
        &self,
        work: impl FnOnce(&ApiClient, &str) -> Result<T> + Send,
    ) -> Result<T> {
        let kubeconfig = self.cp.admin_kubeconfig();
        self.routers_namespace
            .inside(|| work(&ApiClient::new(&kubeconfig)?, self.node))
    }

    /// Creates all Services at once, while the programs run.
    fn allocate(&mut self, services: usize) -> Result<Vec<Row>> {
        let written_before = self.writes()?.len();
        let began = jiff::Timestamp::now();
        self.inside(|api, node| api.create(node, 0..services))?;
        let created = jiff::Timestamp::now();
        self.routers.await_prefixes(services, timeout(services))?;
        // The API server writes its audit log shortly after the response.
        let allocated = eventually("a status of each Service", TIMEOUT, || {
            last_allocation(&self.writes()?[written_before..], services)
        })?;
        let since = |at: jiff::Timestamp| milliseconds(at.duration_since(began).unsigned_abs());
        let mut rows = vec![
            Row::new(
                "the client's requests that create Services",
                services,
                "ms",
                since(created),
            ),
            Row::new(
                "from the first of them to all allocated",
                services,
                "ms",
                since(allocated),
            ),
        ];
        if services <= MAX_FOR_ALL {
            let writes = self.await_last_write()?.split_off(written_before);
            rows.extend(writes_per_service(&writes, services));
        }
        Ok(rows)
    }

    /// The writes of the system so far, without those of Leases, which depend on time alone.
    fn writes(&self) -> Result<Vec<Write>> {
        let mut writes = self.cp.writes()?;
        writes.retain(|write| write.resource != "leases");
        Ok(writes)
    }

    /// Waits until the system writes nothing more; returns its writes so far.
    fn await_last_write(&self) -> Result<Vec<Write>> {
        let mut count = 0;
        loop {
            let writes = self.writes()?;
            if writes.len() == count {
                return Ok(writes);
            }
            count = writes.len();
            sleep(NO_MORE_WRITES);
        }
    }

    fn memory(&mut self, services: usize) -> Result<Vec<Row>> {
        sleep(SETTLED);
        let [announcer, allocator] = [&mut self.announcer, &mut self.allocator]
            .map(|program| memory(program.pid()).map(|memory| memory.now as f64));
        Ok(vec![
            Row::new(
                "resident memory of announcer or speaker",
                services,
                "KiB",
                announcer?,
            ),
            Row::new(
                "resident memory of allocator or controller",
                services,
                "KiB",
                allocator?,
            ),
        ])
    }

    /// Restarts the announcer; all Services have addresses before.
    fn starts(&mut self, starts: usize, services: usize) -> Result<Vec<Row>> {
        let (mut times, mut updates) = (Vec::new(), Vec::new());
        for _ in 0..starts {
            self.announcer.terminate()?;
            self.routers.await_closed(TIMEOUT)?;
            let started = Instant::now();
            self.announcer.start_again()?;
            let table = self
                .routers
                .await_updates(services, timeout(services), SETTLED)?;
            times.push(milliseconds(table.all_prefixes.duration_since(started)));
            updates.push(table.updates as f64);
        }
        let time = median(times.into_iter());
        let updates = median(updates.into_iter());
        Ok(vec![
            Row::new(
                "start to the last prefix at the last of 4 peers",
                services,
                "ms",
                time,
            ),
            Row::new(
                "UPDATEs with prefixes to a peer after a start",
                services,
                "",
                updates,
            ),
        ])
    }

    fn endpoint_slice_changes(&mut self, services: usize) -> Result<Vec<Row>> {
        let addresses = self.cp.service_addresses("default", &api_client::name(0))?;
        let address = *addresses.first().context("no address")?;
        let pid = self.announcer.pid();
        let idle = cpu_share(pid, SETTLED)?;
        let kubeconfig = self.cp.admin_kubeconfig();
        let (namespace, routers, node) = (&self.routers_namespace, &mut self.routers, self.node);
        let summary = namespace.inside(|| {
            let mut measurement = series::Measurement {
                api: &ApiClient::new(&kubeconfig)?,
                watched: &api_client::watch(namespace, &kubeconfig, 0)?,
                routers,
                node,
                prefix: address.into(),
                pid,
                idle,
            };
            Ok(measurement.run()?.summary())
        })?;
        Ok(vec![
            Row::new(
                "EndpointSlice change to UPDATE at the last of 4 peers, median",
                services,
                "ms",
                summary.last_update,
            ),
            Row::new(
                "the same, from the event at a plain watch, median",
                services,
                "ms",
                summary.after_event,
            ),
            Row::new(
                "CPU time of announcer or speaker per change",
                services,
                "ms",
                summary.cpu,
            ),
            Row::new(
                "CPU time of announcer or speaker per idle second",
                services,
                "ms",
                idle * 1e3,
            ),
        ])
    }

    /// Creates Services one at a time. None is deleted in between: then MetalLB's controller looks
    /// at all others, and a new one waits for that.
    fn new_services(&mut self, services: usize) -> Result<Row> {
        let mut times = Vec::new();
        for index in services..services + CREATED {
            sleep(PAUSE);
            self.inside(|api, node| api.create_slice(node, index))?;
            let began = self.inside(|api, node| {
                // The first request opens a connection.
                api.version()?;
                let began = Instant::now();
                api.create_service(node, index)?;
                Ok(began)
            })?;
            let table = self
                .routers
                .await_updates(index + 1, TIMEOUT, Duration::ZERO)?;
            times.push(milliseconds(table.all_prefixes.duration_since(began)));
        }
        times.sort_by(f64::total_cmp);
        let median = percentile(&times, 50).context("no Service")?;
        let measured = "Service created to UPDATE at the last of 4 peers, median";
        Ok(Row::new(measured, services, "ms", median))
    }
}

fn writes_per_service(writes: &[Write], services: usize) -> [Row; 2] {
    let per_service = |writes: usize| writes as f64 / services as f64;
    let events = writes.iter().filter(|write| write.resource == "events");
    [
        Row::new(
            "API writes per Service",
            services,
            "",
            per_service(writes.len()),
        ),
        Row::new(
            "Events per Service, of these writes",
            services,
            "",
            per_service(events.count()),
        ),
    ]
}

/// When the last of these Services got its first address.
fn last_allocation(writes: &[Write], services: usize) -> Result<jiff::Timestamp> {
    let mut first: HashMap<&str, &str> = HashMap::new();
    for write in writes {
        if write.resource == "services/status" && write.status == 200 {
            first.entry(&write.name).or_insert(&write.at);
        }
    }
    ensure!(
        first.len() == services,
        "statuses of {} Services were written, not {services}",
        first.len()
    );
    let last = first.into_values().max().context("no Service")?;
    Ok(last.parse()?)
}

/// The number of routers is in the names of the rows.
const _: () = assert!(PEERS == 4);
