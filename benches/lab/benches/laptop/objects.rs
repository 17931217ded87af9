//! The objects of a cluster of racks: 20 nodes and two routers each. Every second Service has the
//! policy Local and five endpoints, the others have three. Nodes, EndpointSlices and Pods have the
//! fields that kubelets and controllers write, since a client receives all of them.

use serde_json::{Value, json};

/// The namespace of the configuration, and of ferrolb's Pods.
const NAMESPACE: &str = "metallb-system";
/// The namespace of the Services.
pub(crate) const OF_SERVICES: &str = "default";
/// Nodes of a rack.
const RACK: usize = 20;
/// A kubelet reports as many images (`--node-status-max-images`).
const IMAGES: usize = 50;
const IMAGE: &str = "registry.example.com/ferrolb:0.1.0";
const TIME: &str = "2026-01-01T00:00:00Z";

/// The size of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    /// Nodes, full racks of 20.
    pub(crate) nodes: usize,
    /// Services of type LoadBalancer.
    pub(crate) services: usize,
}

/// What a cluster has more than a smaller one, each with its status.
pub(crate) fn added(from: Size, to: Size) -> Vec<Value> {
    let mut objects = Vec::new();
    if from.nodes == 0 {
        objects.extend([pool(), advertisement(), deployment(), allocator_pod()]);
    }
    for rack in from.nodes / RACK..to.nodes / RACK {
        objects.extend((1..=2).map(|router| peer(rack, router)));
    }
    for number in from.nodes..to.nodes {
        objects.extend([node(number), announcer_pod(number)]);
    }
    for number in from.services..to.services {
        objects.extend([slice(number, to.nodes, true), service(number)]);
    }
    objects
}

fn rack_of(node: usize) -> String {
    format!("rack-{:02}", node / RACK)
}

/// The name of a node.
pub(crate) fn node_name(number: usize) -> String {
    format!("node-{number:03}.example.com")
}

/// The name of a Service.
pub(crate) fn service_name(number: usize) -> String {
    format!("app-{number:04}")
}

fn pool() -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": { "name": "production", "namespace": NAMESPACE },
        "spec": { "addresses": ["198.18.0.0/16"] },
    })
}

fn advertisement() -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement",
        "metadata": { "name": "all", "namespace": NAMESPACE },
        "spec": { "communities": ["64512:100"] },
    })
}

fn peer(rack: usize, router: usize) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
        "metadata": { "name": format!("tor-{rack:02}-{router}"), "namespace": NAMESPACE },
        "spec": {
            "myASN": 64512, "peerASN": 64700 + rack,
            "peerAddress": format!("10.{rack}.0.{router}"),
            "nodeSelectors": [
                { "matchLabels": { "topology.kubernetes.io/zone": format!("rack-{rack:02}") } },
            ],
        },
    })
}

fn node(number: usize) -> Value {
    let name = node_name(number);
    let conditions = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ];
    let conditions = conditions.map(|(kind, status, reason)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": reason,
            "lastHeartbeatTime": TIME, "lastTransitionTime": TIME,
        })
    });
    let images = (0..IMAGES).map(|image| {
        let at = format!(
            "registry.example.com/team-{}/app-{}",
            image % 7,
            number + image
        );
        json!({ "names": [format!("{at}@sha256:{:064x}", image), format!("{at}:1.0.{image}")],
                "sizeBytes": 10_000_000 + image })
    });
    let resources = json!({
        "cpu": "32", "memory": "131072000Ki", "pods": "110", "ephemeral-storage": "204800000Ki",
        "hugepages-1Gi": "0", "hugepages-2Mi": "0",
    });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
                "topology.kubernetes.io/region": "dc1",
                "topology.kubernetes.io/zone": rack_of(number),
            },
            "annotations": { "node.alpha.kubernetes.io/ttl": "0" },
        },
        "spec": { "podCIDR": format!("10.244.{number}.0/24") },
        "status": {
            "addresses": [
                { "type": "InternalIP",
                  "address": format!("10.{}.0.{}", number / RACK, number % RACK + 11) },
                { "type": "Hostname", "address": name },
            ],
            "capacity": resources, "allocatable": resources, "conditions": conditions,
            "images": images.collect::<Vec<_>>(),
            "nodeInfo": {
                "machineID": format!("{number:032x}"), "systemUUID": format!("{number:032x}"),
                "bootID": format!("{number:032x}"), "kernelVersion": "6.1.0",
                "osImage": "Debian GNU/Linux 12", "containerRuntimeVersion": "containerd://1.7.0",
                "kubeletVersion": "v1.34.2", "kubeProxyVersion": "", "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    })
}

/// With an address, as the allocator writes it.
fn service(number: usize) -> Value {
    let address = format!("198.18.{}.{}", number / 250, number % 250 + 1);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": service_name(number), "namespace": OF_SERVICES,
            "labels": { "app": service_name(number), "team": format!("team-{}", number % 40) },
            "annotations": { "metallb.io/ip-allocated-from-pool": "production" },
        },
        // Without a selector no controller writes EndpointSlices.
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": if is_local(number) { "Local" } else { "Cluster" },
            "allocateLoadBalancerNodePorts": false,
            "ports": [
                { "name": "http", "port": 80, "targetPort": 8080 },
                { "name": "https", "port": 443, "targetPort": 8443 },
            ],
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": address, "ipMode": "VIP" }] } },
    })
}

const fn is_local(service: usize) -> bool {
    service % 2 == 1
}

/// The EndpointSlice of a Service, all of whose endpoints are ready or none.
pub(crate) fn slice(number: usize, nodes: usize, ready: bool) -> Value {
    let name = service_name(number);
    let count = if is_local(number) { 5 } else { 3 };
    let endpoints = (0..count).map(|endpoint| {
        let node = (number + endpoint * 17) % nodes;
        json!({
            "addresses": [format!("10.244.{node}.{}", number % 250 + 2)],
            "conditions": { "ready": ready, "serving": ready, "terminating": false },
            "nodeName": node_name(node),
            "zone": rack_of(node),
            "targetRef": {
                "kind": "Pod", "namespace": OF_SERVICES,
                "name": format!("{name}-6d4cf56db6-{endpoint:05}"),
                "uid": format!("00000000-0000-4000-8000-{:012x}", number * 8 + endpoint),
            },
        })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": OF_SERVICES,
            "labels": {
                "kubernetes.io/service-name": name, "app": name,
                "endpointslice.kubernetes.io/managed-by": "bench",
            },
        },
        "addressType": "IPv4",
        "ports": [
            { "name": "http", "port": 8080, "protocol": "TCP" },
            { "name": "https", "port": 8443, "protocol": "TCP" },
        ],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn labels(component: &str) -> Value {
    json!({ "app.kubernetes.io/name": "ferrolb", "app.kubernetes.io/component": component })
}

fn pod_spec(role: &str) -> Value {
    json!({ "containers": [{
        "name": "ferrolb", "image": IMAGE, "args": ["run", format!("--role={role}")],
    }] })
}

fn workload(kind: &str, role: &str) -> Value {
    let labels = labels(role);
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": { "name": format!("ferrolb-{role}"), "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec(role) },
        },
    })
}

fn deployment() -> Value {
    let mut deployment = workload("Deployment", "allocator");
    deployment["status"] = json!({ "replicas": 1, "readyReplicas": 1 });
    deployment
}

/// The DaemonSet of the announcers, with a Pod on each node.
pub(crate) fn daemonset(nodes: usize) -> Value {
    let mut daemonset = workload("DaemonSet", "announcer");
    daemonset["status"] = json!({
        "desiredNumberScheduled": nodes, "numberReady": nodes,
        "currentNumberScheduled": nodes, "numberMisscheduled": 0,
    });
    daemonset
}

fn pod(name: &str, role: &str, node: usize) -> Value {
    let mut spec = pod_spec(role);
    spec["nodeName"] = json!(node_name(node));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels(role) },
        "spec": spec,
        "status": {
            "phase": "Running",
            "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": TIME },
                { "type": "PodScheduled", "status": "True", "lastTransitionTime": TIME },
            ],
            "containerStatuses": [{
                "name": "ferrolb", "image": IMAGE, "imageID": IMAGE, "ready": true,
                "restartCount": 0, "state": { "running": { "startedAt": TIME } },
            }],
        },
    })
}

fn allocator_pod() -> Value {
    pod("ferrolb-allocator-0", "allocator", 0)
}

fn announcer_pod(node: usize) -> Value {
    pod(&format!("ferrolb-announcer-{node:03}"), "announcer", node)
}

/// A BGPSession as the announcer of the node writes it, by a line of `ferrolb status -o json`: what
/// that expects is what the router has.
pub(crate) fn session(line: &Value) -> Value {
    let [node, peer] = ["node", "peer"].map(|name| line[name].as_str().unwrap_or_default());
    json!({
        "apiVersion": "ferrolb.io/v1alpha1", "kind": "BGPSession",
        "metadata": {
            "name": format!("{node}.{peer}"),
            "labels": { "ferrolb.io/node": node, "ferrolb.io/peer": peer },
        },
        "status": {
            "node": node, "peer": peer, "address": line["address"], "bgp": "Established",
            "since": TIME, "prefixesSent": line["prefixesExpected"],
            "digest": line["digestExpected"],
            "negotiated": {
                "peerASN": 64700, "peerRouterID": line["address"],
                "families": ["ipv4-unicast", "ipv6-unicast"], "holdTime": "90s",
                "restartTime": "120s",
            },
        },
    })
}
