//! Nodes with ferrolb's layer 2 and without Kubernetes: each reads the same folder of manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::{Host, Mac, Switch, answers, mac};
use crate::daemon::Folder;
use crate::eventually::eventually;
use crate::kube::{PORT, traffic_program};
use crate::manifest;
use crate::process::Process;
use crate::scenario::Scratch;
use crate::topology::{Node, Topology};

/// Longer than any step takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// File of the L2Advertisement.
const ADVERTISEMENT: &str = "advertisement.yaml";

/// Number of the client on the LAN.
const CLIENT: u8 = 100;

/// Nodes, a client on their LAN, and a Service for each address. Every node answers requests for
/// port 80 of every address itself, as it would with kube-proxy and a local Pod.
#[derive(Debug)]
pub struct LanCluster<'lab> {
    /// The manifests.
    pub folder: Folder<'lab>,
    /// The client.
    pub client: Host,
    /// The hosts.
    pub rack: &'lab Topology,
    /// The addresses of the Services.
    pub addresses: Vec<IpAddr>,
    macs: Vec<Mac>,
    daemons: Vec<Option<Process>>,
    _servers: Vec<Process>,
}

impl<'lab> LanCluster<'lab> {
    /// Writes the manifests: nodes, key, a pool of the LAN's networks and an L2Advertisement with
    /// this spec. No daemon runs yet, and there is no Service.
    ///
    /// # Errors
    /// When a file or namespace can't be created.
    pub fn new(
        scratch: &'lab Scratch,
        rack: &'lab Topology,
        addresses: &[IpAddr],
        advertisement: &str,
    ) -> Result<Self> {
        let folder = Folder::new(scratch)?;
        for node in &rack.nodes {
            folder.write_node(node, &[])?;
        }
        let pool = manifest::pool("10.99.0.200-10.99.0.250, \"fd99::200-fd99::250\"");
        folder.write("pool.yaml", &pool)?;
        folder.write(
            ADVERTISEMENT,
            &manifest::layer2_advertisement(advertisement),
        )?;
        folder.write("key.yaml", &manifest::memberlist_secret("a-key-of-the-lab"))?;
        let nodes = || rack.nodes.iter();
        Ok(Self {
            folder,
            client: Host::new(rack, "client", CLIENT)?,
            addresses: addresses.to_vec(),
            macs: nodes()
                .map(|node| mac(&node.namespace))
                .collect::<Result<_>>()?,
            daemons: nodes().map(|_| None).collect(),
            _servers: nodes()
                .map(|node| serve(scratch, node))
                .collect::<Result<_>>()?,
            rack,
        })
    }

    /// Writes a Service for each address, with endpoints on all nodes.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write_services(&self) -> Result<()> {
        let nodes = self.rack.nodes.iter();
        let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
        // In one file, so that every daemon places all addresses at once.
        let services = self.addresses.iter().enumerate();
        let services: Vec<String> = services
            .map(|(index, address)| manifest::service_at(*address, index + 1, &names))
            .collect();
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        self.folder
            .write("services.yaml", &manifest::join(&services))
    }

    /// Replaces the spec of the L2Advertisement.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write_advertisement(&self, spec: &str) -> Result<()> {
        self.folder
            .write(ADVERTISEMENT, &manifest::layer2_advertisement(spec))
    }

    /// Deletes the L2Advertisement.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_advertisement(&self) -> Result<()> {
        self.folder.remove(ADVERTISEMENT)
    }

    /// As [`LanCluster::new`], with a daemon on every node and the Services; waits until every
    /// address has an owner.
    ///
    /// # Errors
    /// When a daemon can't be started, or an address has no owner after a timeout.
    pub fn start(
        scratch: &'lab Scratch,
        rack: &'lab Topology,
        addresses: &[IpAddr],
    ) -> Result<Self> {
        let mut cluster = Self::new(scratch, rack, addresses, "")?;
        let nodes: Vec<usize> = (0..rack.nodes.len()).collect();
        for &node in &nodes {
            cluster.start_daemon(node)?;
        }
        cluster.await_peers(&nodes)?;
        cluster.write_services()?;
        cluster.await_owners(&nodes)?;
        Ok(cluster)
    }

    /// The switch.
    #[must_use]
    pub fn switch(&self) -> Switch<'lab> {
        Switch(&self.rack.tor)
    }

    /// Starts the daemon of a node (0 is `node1`).
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_daemon(&mut self, node: usize) -> Result<()> {
        let daemon = self.folder.run_role(&self.rack.nodes[node], "layer2")?;
        self.daemons[node] = Some(daemon);
        Ok(())
    }

    /// The daemon of a node.
    ///
    /// # Errors
    /// When it was not started, or was taken away.
    pub fn daemon(&mut self, node: usize) -> Result<&mut Process> {
        let daemon = self.daemons[node].as_mut();
        daemon.with_context(|| format!("no daemon on node{}", node + 1))
    }

    /// Kills the daemon of a node: SIGKILL.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_daemon(&mut self, node: usize) -> Result<()> {
        self.daemon(node)?.kill()?;
        self.daemons[node] = None;
        Ok(())
    }

    /// Stops the daemon of a node with SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When there is none, or it does not end.
    pub fn stop_daemon(&mut self, node: usize) -> Result<()> {
        let status = self.daemon(node)?.terminate(TIMEOUT)?;
        self.daemons[node] = None;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    /// Replaces the daemon of a node as a rollout with surge does.
    ///
    /// # Errors
    /// When there is none, or the new one does not become ready.
    pub fn replace_daemon(&mut self, node: usize) -> Result<()> {
        let (folder, host) = (&self.folder, &self.rack.nodes[node]);
        let first = self.daemons[node].as_mut().context("no daemon")?;
        let second = folder.replace(host, first)?;
        self.daemons[node] = Some(second);
        Ok(())
    }

    /// Power loss of a node: its carrier goes and its processes end.
    ///
    /// # Errors
    /// When it has no daemon.
    pub fn power_off(&mut self, node: usize) -> Result<()> {
        let uplink = ["link", "set", "uplink", "down"];
        self.rack.nodes[node].namespace.ip(&uplink)?;
        self.kill_daemon(node)
    }

    /// Switches a node on after [`LanCluster::power_off`].
    ///
    /// # Errors
    /// When its daemon can't be started.
    pub fn power_on(&mut self, node: usize) -> Result<()> {
        let Node {
            namespace, ipv6, ..
        } = &self.rack.nodes[node];
        namespace.ip(&["link", "set", "uplink", "up"])?;
        // The kernel removes IPv6 addresses and routes with the link.
        namespace.address("uplink", &format!("{ipv6}/64"))?;
        self.start_daemon(node)
    }

    /// Runs a command of the CLI that asks the daemon of a node, and returns its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, node: usize, arguments: &[&str]) -> Result<String> {
        self.folder.ask(&self.rack.nodes[node], arguments)
    }

    /// What `ferrolb l2 -o json` prints on a node.
    ///
    /// # Errors
    /// When it fails or does not print JSON.
    pub fn status(&self, node: usize) -> Result<Value> {
        self.folder.layer2_status(&self.rack.nodes[node])
    }

    /// A counter of the daemon of a node.
    ///
    /// # Errors
    /// When its status has no such counter.
    pub fn counter(&self, node: usize, name: &str) -> Result<u64> {
        let status = self.status(node)?;
        let value = status["counters"][name].as_u64();
        value.with_context(|| format!("no counter {name} in {status}"))
    }

    /// The node of an Ethernet address.
    #[must_use]
    pub fn node_of(&self, mac: &Mac) -> Option<usize> {
        self.macs.iter().position(|known| known == mac)
    }

    /// The Ethernet address of a node.
    #[must_use]
    pub fn mac(&self, node: usize) -> &Mac {
        &self.macs[node]
    }

    /// The only node that answers a host for each address.
    ///
    /// # Errors
    /// When none or several answer for an address, or a host that is no node.
    pub fn owners_seen_by(&self, host: &Host) -> Result<BTreeMap<IpAddr, usize>> {
        let namespace = &host.namespace;
        let asked = thread::scope(|scope| {
            let ask =
                |&address: &IpAddr| scope.spawn(move || (address, answers(namespace, address)));
            let threads: Vec<_> = self.addresses.iter().map(ask).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.collect::<Result<Vec<_>, _>>()
        });
        let asked = asked.map_err(|_| anyhow!("a thread panicked"))?;
        let owner = |(address, macs): (IpAddr, Result<BTreeSet<Mac>>)| {
            let macs: Vec<Mac> = macs?.into_iter().collect();
            let [mac] = &macs[..] else {
                let nodes: Vec<_> = macs.iter().map(|mac| self.node_of(mac)).collect();
                return Err(anyhow!(
                    "{address}: answers from {macs:?} (nodes {nodes:?})"
                ));
            };
            let node = self.node_of(mac);
            Ok((
                address,
                node.with_context(|| format!("{address}: a foreign {mac}"))?,
            ))
        };
        asked.into_iter().map(owner).collect()
    }

    /// The owner of each address, if exactly one of these nodes answers the client for it, and the
    /// daemons of all these nodes report that one as the owner.
    ///
    /// # Errors
    /// When an answer is missing or there are several, or a daemon reports something else.
    pub fn owners(&self, nodes: &[usize]) -> Result<BTreeMap<IpAddr, usize>> {
        let owners = self.owners_seen_by(&self.client)?;
        for (address, owner) in &owners {
            ensure!(
                nodes.contains(owner),
                "node{} answers for {address}",
                owner + 1
            );
        }
        for &node in nodes {
            self.reports(node, &owners)?;
        }
        Ok(owners)
    }

    /// Checks that the daemon of a node reports these owners.
    ///
    /// # Errors
    /// When it reports something else.
    pub fn reports(&self, node: usize, owners: &BTreeMap<IpAddr, usize>) -> Result<()> {
        let status = self.status(node)?;
        for (address, &owner) in owners {
            let reported = &status["addresses"][address.to_string()]["owner"];
            let expected = &self.rack.nodes[owner].name;
            ensure!(
                reported.as_str() == Some(expected),
                "{address}: {expected} answers, node{} reports {reported}",
                node + 1
            );
        }
        Ok(())
    }

    /// Waits until [`LanCluster::owners`] succeeds.
    ///
    /// # Errors
    /// After a timeout, with its last error.
    pub fn await_owners(&self, nodes: &[usize]) -> Result<BTreeMap<IpAddr, usize>> {
        eventually("one owner per address", TIMEOUT, || self.owners(nodes))
    }

    /// Waits until these nodes are ready and each receives the hellos of the others in time.
    ///
    /// # Errors
    /// After a timeout, with what is missing.
    pub fn await_peers(&self, nodes: &[usize]) -> Result<()> {
        eventually("hellos of all nodes", TIMEOUT, || {
            for &node in nodes {
                let status = self.status(node)?;
                ensure!(status["state"] == "ready", "node{}: {status}", node + 1);
                for &other in nodes.iter().filter(|&&other| other != node) {
                    let peer = self.peer(&status, other);
                    ensure!(
                        peer["alive"] == true && peer["state"] == "ready",
                        "node{} reports of node{}: {peer}",
                        node + 1,
                        other + 1
                    );
                }
            }
            Ok(())
        })
    }

    /// What a status reports of a node on the LAN; null without a hello of it.
    #[must_use]
    pub fn peer(&self, status: &Value, node: usize) -> Value {
        let name = self.rack.nodes[node].name.as_str();
        let segments = status["segments"].as_array().into_iter().flatten();
        let mut peers = segments
            .filter(|segment| segment["interface"] == "uplink")
            .filter_map(|segment| segment["peers"].as_array())
            .flatten();
        let peer = peers.find(|peer| peer["node"] == name);
        peer.cloned().unwrap_or_default()
    }
}

/// Starts a server that sends the node's name, for port 80 of every address of the pool.
fn serve(scratch: &Scratch, node: &Node) -> Result<Process> {
    let rules = format!(
        "table inet web {{ chain prerouting {{ type nat hook prerouting priority -100; \
         ip daddr 10.99.0.200-10.99.0.250 tcp dport 80 redirect to :{PORT}; \
         ip6 daddr fd99::200-fd99::250 tcp dport 80 redirect to :{PORT}; }}; }}"
    );
    node.namespace.run("nft", &[&rules])?;
    let mut command = node.namespace.command(traffic_program()?);
    command.args(["serve", &node.name, &PORT.to_string()]);
    Process::start(scratch, &format!("server-{}", node.name), &command)
}
