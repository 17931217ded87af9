//! Measures frames, CPU and memory of ferrolb's layer 2 with many nodes and addresses, without
//! Kubernetes. Prints one line of JSON per measurement; docs/benchmarks.md describes each.

mod frames;

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::manifest::{NAMESPACE, endpoint_slice, join};
use ferrolb_interop_tests::metrics;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::{cpu_share, memory};
use ferrolb_lab_bench::statistics::rounded;
use serde_json::json;

use self::frames::sent;

const TIMEOUT: Duration = Duration::from_secs(60);
const AT_REST: Duration = Duration::from_secs(60);

/// Sends ARP requests for an address as fast as one core can, until its input is closed.
const FLOOD: &str = "
import socket, sys, threading
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind(('rack', 0))
mac = sys.argv[2].replace(':', '')
target = ''.join('%02x' % int(part) for part in sys.argv[1].split('.'))
request = '0001080006040001' + mac + '0a630001' + '00' * 6 + target
frame = bytes.fromhex('ff' * 6 + mac + '0806' + request)
count, done = 0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while not done.is_set():
    for _ in range(64):
        try:
            sock.send(frame)
            count += 1
        except OSError:
            pass
print(count)
";

fn main() {
    for nodes in [5, 50] {
        scenario("bench-layer2-rest", |scratch| at_rest(scratch, nodes));
    }
    scenario("bench-layer2-failover", failover_of_500);
    scenario("bench-layer2-flood", flood);
    scenario("bench-layer2-memory", memory_of_10_000);
}

/// A rack with the layer 2 process on every node, and this many addresses.
struct Rack<'lab> {
    topology: &'lab Topology,
    processes: Vec<Process>,
}

impl<'lab> Rack<'lab> {
    fn start(scratch: &Scratch, topology: &'lab Topology, addresses: u16) -> Result<Self> {
        let folder = Folder::new(scratch)?;
        for node in &topology.nodes {
            folder.write_node(node, &[])?;
        }
        folder.write("config.yaml", &configuration())?;
        let mut processes = Vec::new();
        for node in &topology.nodes {
            processes.push(folder.run_role(node, "layer2")?);
        }
        let rack = Self {
            topology,
            processes,
        };
        rack.await_peers()?;
        // All nodes are candidates when the addresses are placed.
        folder.write("services.yaml", &services(addresses))?;
        rack.await_owned(addresses)?;
        Ok(rack)
    }

    /// The addresses that each node owns.
    fn owned(&self) -> Result<Vec<f64>> {
        let nodes = self.topology.nodes.iter().zip(&self.processes);
        nodes
            .map(|(node, _)| metrics::value(&node.namespace, "ferrolb_layer2_addresses_owned"))
            .collect()
    }

    fn await_peers(&self) -> Result<()> {
        let others = (self.topology.nodes.len() - 1) as f64;
        let series = "ferrolb_layer2_peers_alive{interface=\"uplink\"}";
        eventually("every node receives all others", TIMEOUT, || {
            for node in &self.topology.nodes {
                let alive = metrics::value(&node.namespace, series)?;
                ensure!(alive == others, "{}: {alive} of {others}", node.name);
            }
            Ok(())
        })
    }

    fn await_owned(&self, addresses: u16) -> Result<()> {
        eventually("an owner for every address", TIMEOUT, || {
            let owned = self.owned()?;
            ensure!(
                owned.iter().sum::<f64>() == f64::from(addresses),
                "{owned:?}"
            );
            Ok(())
        })
    }
}

fn configuration() -> String {
    join(&[
        &format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: memberlist, namespace: {NAMESPACE}}}
data: {{secretkey: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}}
"
        ),
        &format!(
            "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: pool, namespace: {NAMESPACE}}}
spec: {{addresses: [10.99.64.0/18]}}
"
        ),
        &format!(
            "apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {{name: all, namespace: {NAMESPACE}}}
spec: {{interfaces: [uplink]}}
"
        ),
    ])
}

fn services(addresses: u16) -> String {
    let mut documents = Vec::new();
    for index in 0..addresses {
        let name = format!("web{index}");
        documents.push(format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{type: LoadBalancer, clusterIP: 10.96.0.10, ports: [{{port: 80}}]}}
status: {{loadBalancer: {{ingress: [{{ip: {}}}]}}}}
",
            address(index)
        ));
        documents.push(endpoint_slice(&name, "IPv4", "10.244.0.5", "node1"));
    }
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    join(&documents)
}

fn address(index: u16) -> Ipv4Addr {
    let [high, low] = index.to_be_bytes();
    Ipv4Addr::new(10, 99, 64 + high, low)
}

fn at_rest(scratch: &Scratch, nodes: u8) -> Result<()> {
    let topology = Topology::new(nodes)?;
    let addresses = u16::from(nodes) * 2;
    let rack = Rack::start(scratch, &topology, addresses)?;
    // The announcements of the first seconds are over.
    sleep(Duration::from_secs(10));
    let before = sent(&topology)?;
    let process = rack.processes.first().context("no process")?;
    let cpu = cpu_share(process.pid(), AT_REST)?;
    let frames = sent(&topology)? - before;
    measurement::print(
        "layer2_rest",
        &[
            ("nodes", json!(nodes)),
            ("addresses", json!(addresses)),
            ("frames_per_minute", json!(frames)),
            ("cpu_percent_per_node", json!(rounded(cpu * 100.0))),
            ("memory_kib", json!(memory(process.pid())?.now)),
        ],
    );
    Ok(())
}

/// The node that owns 500 of 2,500 addresses dies.
fn failover_of_500(scratch: &Scratch) -> Result<()> {
    let topology = Topology::new(5)?;
    let mut rack = Rack::start(scratch, &topology, 2500)?;
    sleep(Duration::from_secs(10));
    let owned = rack.owned()?;
    let before = sent(&topology)?;
    let start = Instant::now();
    topology.nodes[0].uplink.cut()?;
    rack.processes[0].kill()?;
    eventually("an owner for every address", TIMEOUT, || {
        let nodes = topology.nodes[1..].iter();
        let owned: Result<Vec<f64>> = nodes
            .map(|node| metrics::value(&node.namespace, "ferrolb_layer2_addresses_owned"))
            .collect();
        let owned = owned?;
        ensure!(owned.iter().sum::<f64>() == 2500.0, "{owned:?}");
        Ok(())
    })?;
    let all_owned = start.elapsed();
    sleep(Duration::from_secs(6).saturating_sub(start.elapsed()));
    measurement::print(
        "layer2_failover",
        &[
            ("nodes", json!(5)),
            ("addresses_of_dead_node", json!(owned[0])),
            ("all_owned_ms", json!(all_owned.as_millis())),
            ("frames_in_6_s", json!(sent(&topology)? - before)),
        ],
    );
    Ok(())
}

/// Requests for one address at the highest rate of one sender.
fn flood(scratch: &Scratch) -> Result<()> {
    const DURATION: Duration = Duration::from_secs(10);
    let topology = Topology::new(3)?;
    let rack = Rack::start(scratch, &topology, 9)?;
    sleep(Duration::from_secs(6));
    let counter = |name: &str| -> Result<f64> {
        let nodes = topology.nodes.iter();
        nodes
            .map(|node| metrics::value(&node.namespace, name))
            .sum()
    };
    let changes = counter("ferrolb_layer2_owner_changes_total")?;
    let answers = counter("ferrolb_layer2_responses_sent_total")?;
    let rack_link = topology.tor.json("ip", &["-j", "link", "show", "rack"])?;
    let mac = rack_link[0]["address"]
        .as_str()
        .context("rack has no address")?;
    let mut flooder = topology
        .tor
        .command("python3")
        .args(["-c", FLOOD, &address(0).to_string(), mac])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start python3")?;
    let owned = rack.owned()?;
    let busiest = owned
        .iter()
        .position(|owned| *owned > 0.0)
        .context("owner")?;
    let cpu = cpu_share(rack.processes[busiest].pid(), DURATION)?;
    drop(flooder.stdin.take());
    let output = flooder.wait_with_output()?;
    let requests: u64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    let seconds = DURATION.as_secs_f64();
    measurement::print(
        "layer2_flood",
        &[
            ("requests_per_second", json!(requests / DURATION.as_secs())),
            (
                "answers_per_second",
                json!(rounded(
                    (counter("ferrolb_layer2_responses_sent_total")? - answers) / seconds
                )),
            ),
            ("cpu_percent_of_a_node", json!(rounded(cpu * 100.0))),
            (
                "owner_changes",
                json!(counter("ferrolb_layer2_owner_changes_total")? - changes),
            ),
        ],
    );
    Ok(())
}

/// The resident memory of a process with 10,000 Services, without and with layer 2.
fn memory_of_10_000(scratch: &Scratch) -> Result<()> {
    let topology = Topology::new(1)?;
    let folder = Folder::new(scratch)?;
    folder.write_node(&topology.nodes[0], &[])?;
    folder.write("services.yaml", &services(10_000))?;
    let text = configuration();
    let without = text.replace("kind: L2Advertisement", "kind: BGPAdvertisement");
    let without = without.replace("spec: {interfaces: [uplink]}", "spec: {}");
    let mut results = Vec::new();
    for (name, text) in [("idle", &without), ("layer 2", &text)] {
        folder.write("config.yaml", text)?;
        let mut process = folder.run_role(&topology.nodes[0], "layer2")?;
        eventually("ready", TIMEOUT, || {
            metrics::get(&topology.nodes[0].namespace, "/readyz")
        })?;
        // Settling and the probes before the first use take less than two seconds.
        sleep(Duration::from_secs(10));
        results.push((name, memory(process.pid())?.now));
        process.kill()?;
    }
    measurement::print(
        "layer2_memory",
        &[
            ("addresses", json!(10_000)),
            ("idle_kib", json!(results[0].1)),
            ("layer2_kib", json!(results[1].1)),
        ],
    );
    Ok(())
}
