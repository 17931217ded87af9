//! Manifests that several scenarios use, as YAML for `kubectl apply` or a manifest folder. Join
//! them with [`join`].

use std::fmt::Display;
use std::net::IpAddr;

use crate::topology::{NODE_ASN, TOR_ASN, TOR_IPV4};

/// Namespace of MetalLB's and ferrolb's resources.
pub const NAMESPACE: &str = "metallb-system";

/// Kubernetes' label of a node that load balancers must not use.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A server on every real node, whose Pods send the node's name to clients: the Pods of
/// [`service`].
pub const SERVERS: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: ferrolb.example/traffic:lab
        imagePullPolicy: Never
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        args: [serve, $(NODE), '8080']
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
";

/// The documents, separated by `---`.
#[must_use]
pub fn join(documents: &[&str]) -> String {
    documents.join("---\n")
}

/// MetalLB's BGPPeer `tor`, an eBGP session with the rack's router. `more` is appended to its spec,
/// for example `, bfdProfile: fast`.
#[must_use]
pub fn metallb_peer(more: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: tor, namespace: {NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, peerASN: {TOR_ASN}, peerAddress: {TOR_IPV4}{more}}}
"
    )
}

/// ferrolb's BGPPeer `tor`, an eBGP session with this address of the rack's router. `more` is
/// appended to its spec.
#[must_use]
pub fn ferrolb_peer(address: impl Display, more: &str) -> String {
    format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor, namespace: {NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, peerASN: {TOR_ASN}, peerAddress: \"{address}\"{more}}}
"
    )
}

/// The IPAddressPool `pool` with these addresses, comma-separated.
#[must_use]
pub fn pool(addresses: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: pool, namespace: {NAMESPACE}}}
spec: {{addresses: [{addresses}]}}
"
    )
}

/// The BGPAdvertisement `all`, of every pool to every peer. `spec` has its options, for example
/// `peers: [tor]`.
#[must_use]
pub fn advertisement(spec: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: all, namespace: {NAMESPACE}}}
spec: {{{spec}}}
"
    )
}

/// The BFDProfile `fast`: 100 ms × 3.
#[must_use]
pub fn bfd_profile() -> String {
    format!(
        "apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {{name: fast, namespace: {NAMESPACE}}}
spec: {{receiveInterval: 100, transmitInterval: 100, detectMultiplier: 3}}
"
    )
}

/// A Service of type LoadBalancer in the namespace `default`, port 80, for the Pods of every node
/// of [`kube::Rack`](crate::kube::Rack). `metadata` and `spec` have further fields, each followed
/// by a comma, for example `externalTrafficPolicy: Local,`.
#[must_use]
pub fn service(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, {metadata} namespace: default}}
spec: {{type: LoadBalancer, selector: {{app: web}}, {spec} ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

/// The Service `web` with an IPv4 and an IPv6 address, and a ready endpoint of each family on this
/// node, for a daemon without an API server.
#[must_use]
pub fn dual_stack_service(ipv4: impl Display, ipv6: impl Display, node: &str) -> String {
    let service = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, \"fd96::10\"]
  ipFamilies: [IPv4, IPv6]
  ports: [{{port: 80}}]
status: {{loadBalancer: {{ingress: [{{ip: {ipv4}}}, {{ip: \"{ipv6}\"}}]}}}}
"
    );
    join(&[
        &service,
        &endpoint_slice("web", "IPv4", "10.244.0.5", node),
        &endpoint_slice("web", "IPv6", "fd24::5", node),
    ])
}

/// An EndpointSlice of a Service with one ready endpoint on a node.
#[must_use]
pub fn endpoint_slice(service: &str, family: &str, address: &str, node: &str) -> String {
    let endpoint =
        format!("{{addresses: [\"{address}\"], nodeName: {node}, conditions: {{ready: true}}}}");
    endpoint_slice_of(service, family, &[endpoint])
}

/// The EndpointSlice of the Service `ferrolb-layer2`, by which nodes know whose process is ready.
#[must_use]
pub fn layer2_endpoints(nodes: &[&str]) -> String {
    let endpoint = |(index, node): (usize, &&str)| {
        format!(
            "{{addresses: [10.99.0.{}], nodeName: {node}, conditions: {{ready: true}}}}",
            index + 11
        )
    };
    let endpoints: Vec<String> = nodes.iter().enumerate().map(endpoint).collect();
    endpoint_slice_of("ferrolb-layer2", "IPv4", &endpoints)
        .replace("namespace: default", &format!("namespace: {NAMESPACE}"))
}

fn endpoint_slice_of(service: &str, family: &str, endpoints: &[String]) -> String {
    let name = format!("{service}-{}", family.to_lowercase());
    let endpoints = endpoints.join(", ");
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: {family}
endpoints: [{endpoints}]
"
    )
}

/// The L2Advertisement `all`, of every pool. `spec` has its options, for example `interfaces:
/// [uplink]`.
#[must_use]
pub fn layer2_advertisement(spec: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {{name: all, namespace: {NAMESPACE}}}
spec: {{{spec}}}
"
    )
}

/// ferrolb's L2Advertisement `all`, of every pool, with the fields that MetalLB's lacks.
#[must_use]
pub fn ferrolb_layer2_advertisement(spec: &str) -> String {
    layer2_advertisement(spec).replace("metallb.io/v1beta1", "ferrolb.io/v1alpha1")
}

/// The Secret `memberlist` with this key, as MetalLB's instructions create it.
#[must_use]
pub fn memberlist_secret(key: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: memberlist, namespace: {NAMESPACE}}}
stringData: {{secretkey: {key}}}
"
    )
}

/// A Service with this address and a ready endpoint on each of these nodes, for daemons without an
/// API server. `number` from 1 to 99 makes it unique; a lower one is older.
#[must_use]
pub fn service_at(address: IpAddr, number: usize, nodes: &[&str]) -> String {
    let name = format!("web-{number}");
    let (family, cluster_ip) = match address {
        IpAddr::V4(_) => ("IPv4", format!("10.96.0.{number}")),
        IpAddr::V6(_) => ("IPv6", format!("fd96::{number}")),
    };
    let service = format!(
        "apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
  creationTimestamp: \"2026-01-02T03:04:{number:02}Z\"
spec:
  type: LoadBalancer
  clusterIP: \"{cluster_ip}\"
  clusterIPs: [\"{cluster_ip}\"]
  ipFamilies: [{family}]
  ports: [{{port: 80}}]
status: {{loadBalancer: {{ingress: [{{ip: \"{address}\"}}]}}}}
"
    );
    let endpoint = |(host, node): (usize, &&str)| {
        let pod = match address {
            IpAddr::V4(_) => format!("10.244.{number}.{}", host + 2),
            IpAddr::V6(_) => format!("fd24::{number}:{}", host + 2),
        };
        format!("{{addresses: [\"{pod}\"], nodeName: {node}, conditions: {{ready: true}}}}")
    };
    let endpoints: Vec<String> = nodes.iter().enumerate().map(endpoint).collect();
    join(&[&service, &endpoint_slice_of(&name, family, &endpoints)])
}
