//! The cluster of the cases: a rack of three nodes, on which a case starts its Pods and creates its
//! Service.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{Backend, Pod, Rack};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use serde_json::{Value, json};

use crate::requests::{TIMEOUT, health};

/// The nodes of the rack.
pub(crate) const NODES: [usize; 3] = [0, 1, 2];

/// A case: one rule.
pub(crate) type Case = fn(&Suite<'_>) -> Result<()>;

/// The running rack, without any Service.
pub(crate) struct Suite<'lab> {
    pub(crate) rack: Rack<'lab>,
    scratch: &'lab Scratch,
    /// Number of the last Pod; those of the rack have 2.
    pods: AtomicU8,
}

/// A Pod with a server, whose label `app` is the name of its Service.
pub(crate) struct Server {
    pod: Pod,
    backend: Backend,
}

impl Server {
    /// The host of the Pod.
    pub(crate) fn host(&self) -> &Namespace {
        self.backend.namespace()
    }

    pub(crate) fn address(&self) -> Result<IpAddr> {
        self.pod.addresses.first().copied().context("no address")
    }
}

/// Runs cases one after another on one rack. Each leaves the rack without a Service and a route.
pub(crate) fn run(name: &str, cases: &[(&str, Case)]) {
    scenario(name, |scratch| {
        let mut topology = Topology::new(3)?;
        topology.add_client()?;
        for node in &topology.nodes {
            // By default the kernel rejects one datagram a second, after a few.
            node.namespace.sysctl(&["net.ipv4.icmp_ratelimit=0"])?;
        }
        topology.tor.sysctl(&["net.ipv4.icmp_ratelimit=0"])?;
        let configuration = manifest::join(&[
            &manifest::metallb_peer(""),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
        ]);
        let suite = Suite {
            rack: Rack::start(scratch, &topology, "ebgp", &configuration)?,
            scratch,
            pods: AtomicU8::new(2),
        };
        for (rule, case) in cases {
            let began = std::time::Instant::now();
            case(&suite).with_context(|| format!("case {rule}"))?;
            println!("{rule}: {:.1} s", began.elapsed().as_secs_f64());
        }
        Ok(())
    });
}

impl Suite<'_> {
    /// The client behind the router.
    pub(crate) fn client(&self) -> Result<&Namespace> {
        self.rack.topology.client()
    }

    /// The InternalIP of a node.
    pub(crate) fn node_address(&self, node: usize) -> IpAddr {
        self.rack.topology.nodes[node].ipv4.into()
    }

    /// Starts a Pod of a Service on a node.
    pub(crate) fn start_pod(&self, service: &str, name: &str, node: usize) -> Result<Server> {
        let member = self.rack.data_path.members[node];
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let host = &self.rack.topology.nodes[node];
        let pod = Pod {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            node: host.name.clone(),
            app: service.to_owned(),
            addresses: vec![member.pod_address(number).into()],
        };
        let backend = Backend::start(self.scratch, &host.namespace, name, &pod.addresses)?;
        self.rack.cp.create_pod(&pod)?;
        Ok(Server { pod, backend })
    }

    /// Deletes a Pod, and then ends its server.
    pub(crate) fn delete_pod(&self, server: Server) -> Result<()> {
        let name = &server.pod.name;
        self.rack.cp.kubectl(&["delete", "pod", name]).map(drop)
    }

    /// Creates a Service for the Pods with its name as label.
    pub(crate) fn create(&self, name: &str, mut spec: Value) -> Result<Value> {
        spec["selector"] = json!({"app": name});
        if spec["ports"].is_null() {
            spec["ports"] = json!([{"port": 80, "targetPort": 8080}]);
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        });
        self.rack.cp.apply(&service.to_string())?;
        self.service(name)
    }

    /// Creates a Service of type LoadBalancer with this policy, and waits for its address.
    pub(crate) fn create_balanced(&self, name: &str, policy: &str) -> Result<IpAddr> {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": policy});
        self.create(name, spec)?;
        self.address(name)
    }

    /// Changes fields of a Service's spec, and returns the Service.
    pub(crate) fn change(&self, name: &str, spec: &Value) -> Result<Value> {
        let patch = json!({"spec": spec}).to_string();
        let arguments = ["patch", "service", name, "--type=merge", "-p", &patch];
        self.rack.cp.kubectl(&arguments)?;
        self.service(name)
    }

    /// A Service.
    pub(crate) fn service(&self, name: &str) -> Result<Value> {
        self.rack.cp.get(&["service", name])
    }

    /// Waits for the address of a Service.
    pub(crate) fn address(&self, name: &str) -> Result<IpAddr> {
        let addresses = self.rack.await_addresses(name)?;
        ensure!(addresses.len() == 1, "{addresses:?}");
        Ok(addresses[0])
    }

    /// Checks that a Service has still this address.
    pub(crate) fn ensure_kept(&self, name: &str, address: IpAddr) -> Result<()> {
        let found = self.rack.cp.service_addresses("default", name)?;
        ensure!(found == [address], "{name} has {found:?}, not {address}");
        Ok(())
    }

    /// Waits until the router has a route to the address via exactly these nodes, and no other
    /// route.
    pub(crate) fn await_routes(&self, address: IpAddr, nodes: &[usize]) -> Result<()> {
        let routes = self.rack.routes(&format!("{address}/32"), nodes)?;
        self.rack.await_routes(&routes)
    }

    /// Waits until the router has no route.
    pub(crate) fn await_no_route(&self) -> Result<()> {
        self.rack.await_routes(&BTreeSet::new())
    }

    /// Deletes a Service with its Pods, and waits until the router has no route.
    pub(crate) fn delete(&self, name: &str, pods: Vec<Server>) -> Result<()> {
        self.rack.cp.kubectl(&["delete", "service", name])?;
        self.await_no_route()?;
        pods.into_iter().try_for_each(|pod| self.delete_pod(pod))
    }

    /// Waits until a health check of this port succeeds on exactly these nodes, and fails on the
    /// others with the status of a node without a Pod.
    pub(crate) fn await_healthy(&self, port: u16, nodes: &[usize]) -> Result<()> {
        let client = self.client()?;
        for node in NODES {
            let expected = if nodes.contains(&node) { 200 } else { 503 };
            let what = format!("health of node {node}: {expected}");
            eventually(what, TIMEOUT, || {
                let status = health(client, self.node_address(node), port)??;
                ensure!(status == expected, "{status}");
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The port for a load balancer's health checks of a Service; `None` without one.
pub(crate) fn health_port(service: &Value) -> Option<u16> {
    let port = service["spec"]["healthCheckNodePort"].as_u64()?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// The NodePort of a Service's first port; `None` without one.
pub(crate) fn node_port(service: &Value) -> Option<u16> {
    let port = service["spec"]["ports"][0]["nodePort"].as_u64()?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}
