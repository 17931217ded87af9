//! The data path of a Service: kube-proxy on the nodes, and Pod networks with a server.

use std::net::IpAddr;

use anyhow::{Context, Result};

use super::{ControlPlane, Member, Pod, cached, traffic_program};
use crate::netns::{Link, Namespace};
use crate::process::Process;
use crate::scenario::Scratch;
use crate::topology::Node;

/// Port of every [`Backend`]: the `targetPort` of Services.
pub const PORT: u16 = 8080;

/// Pod networks of both families; kube-proxy does not masquerade traffic from them.
const CLUSTER_CIDR: &str = "10.244.0.0/16,fd00:244::/48";

/// Gateway of a Pod's default route, an address on each veth of the node.
const GATEWAY: &str = "169.254.1.1";
const GATEWAY6: &str = "fe80::1";

impl ControlPlane<'_> {
    /// Starts kube-proxy (nftables) on a node that has joined ([`ControlPlane::join`]). It serves a
    /// load-balancer address as soon as it is in `status.loadBalancer.ingress`.
    ///
    /// # Errors
    /// When kube-proxy can't be started.
    pub fn start_kube_proxy(&self, node: &Namespace, name: &str) -> Result<Process> {
        let mut command = node.command(cached("kube-proxy")?);
        command
            .arg(format!(
                "--kubeconfig={}",
                self.admin_kubeconfig().display()
            ))
            .arg(format!("--hostname-override={name}"))
            .arg("--proxy-mode=nftables")
            .arg(format!("--cluster-cidr={CLUSTER_CIDR}"))
            // The size of the conntrack table can't be set in a namespace.
            .arg("--conntrack-max-per-core=0");
        Process::start(self.scratch(), &format!("kube-proxy-{name}"), &command)
    }
}

/// The nodes of a rack as objects of the cluster, each with kube-proxy and one Pod with a server.
#[derive(Debug)]
pub struct DataPath {
    /// Network membership of each node, in the order of the nodes.
    pub members: Vec<Member>,
    /// Pod of each node: `APP-NODE` in the namespace `default`, dual-stack.
    pub pods: Vec<Pod>,
    /// Server of each Pod.
    pub backends: Vec<Backend>,
    proxies: Vec<Process>,
}

impl DataPath {
    /// Joins each node to the control plane, creates its Node object with the uplink's addresses,
    /// starts kube-proxy and a Pod with the label `app: APP`.
    ///
    /// # Errors
    /// When a part can't be created, for example because a node has joined before.
    pub fn start(cp: &ControlPlane<'_>, nodes: &[Node], app: &str) -> Result<Self> {
        let (mut members, mut pods) = (Vec::new(), Vec::new());
        let (mut backends, mut proxies) = (Vec::new(), Vec::new());
        for node in nodes {
            let member = cp.join(&node.namespace)?;
            cp.create_node(&node.name, &[node.ipv4.into(), node.ipv6.into()])?;
            proxies.push(cp.start_kube_proxy(&node.namespace, &node.name)?);
            let pod = Pod {
                namespace: "default".to_owned(),
                name: format!("{app}-{}", node.name),
                node: node.name.clone(),
                app: app.to_owned(),
                addresses: vec![member.pod_address(2).into(), member.pod_address6(2).into()],
            };
            let host = &node.namespace;
            backends.push(Backend::start(
                cp.scratch(),
                host,
                &pod.name,
                &pod.addresses,
            )?);
            cp.create_pod(&pod)?;
            members.push(member);
            pods.push(pod);
        }
        Ok(Self {
            members,
            pods,
            backends,
            proxies,
        })
    }

    /// Kills kube-proxy on a node (0 is the first one). Its rules stay.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn stop_kube_proxy(&mut self, node: usize) -> Result<()> {
        self.proxies[node].kill()
    }

    /// Starts kube-proxy on a node again.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_kube_proxy(
        &mut self,
        cp: &ControlPlane<'_>,
        nodes: &[Node],
        node: usize,
    ) -> Result<()> {
        let host = &nodes[node];
        self.proxies[node] = cp.start_kube_proxy(&host.namespace, &host.name)?;
        Ok(())
    }
}

/// A Pod: a namespace behind the node's, with a server that sends the Pod's name (`lab-traffic
/// serve`).
#[derive(Debug)]
pub struct Backend {
    server: Process,
    link: Link,
    namespace: Namespace,
}

impl Backend {
    /// Connects the Pod to its node, adds routes for its addresses to the node, and starts the
    /// server on [`PORT`].
    ///
    /// # Errors
    /// When an interface or route can't be created.
    pub fn start(
        scratch: &Scratch,
        node: &Namespace,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        let port = node_port(addresses)?;
        let link = Link::new((&namespace, "eth0"), (node, &port))?;
        node.address(&port, &format!("{GATEWAY}/32"))?;
        node.address(&port, &format!("{GATEWAY6}/64"))?;
        for address in addresses {
            let (family, length, gateway) = match address {
                IpAddr::V4(_) => ("-4", 32, GATEWAY),
                IpAddr::V6(_) => ("-6", 128, GATEWAY6),
            };
            let host = format!("{address}/{length}");
            namespace.address("eth0", &host)?;
            let default = [
                "route", "add", "default", "via", gateway, "dev", "eth0", "onlink",
            ];
            namespace.ip(&[&[family], default.as_slice()].concat())?;
            node.ip(&[family, "route", "add", &host, "dev", &port])?;
        }
        let mut command = namespace.command(traffic_program()?);
        command.args(["serve", name, &PORT.to_string()]);
        let server = Process::start(scratch, &format!("pod-{name}"), &command)?;
        Ok(Self {
            server,
            link,
            namespace,
        })
    }

    /// The Pod's namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The link to its node.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The server process.
    pub fn server(&mut self) -> &mut Process {
        &mut self.server
    }
}

/// Name of the veth on the node, derived from the Pod's first address: unique on the node, at most
/// 15 characters.
fn node_port(addresses: &[IpAddr]) -> Result<String> {
    let first = addresses.first().context("a Pod needs an address")?;
    Ok(match first {
        IpAddr::V4(address) => format!("pod-{:08x}", address.to_bits()),
        IpAddr::V6(address) => format!("pod-{:x}", address.to_bits() & 0xffff_ffff),
    })
}
