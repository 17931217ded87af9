//! Gateway API implementations and clouds: Services as others create them, and the hosts of a LAN.

use std::time::Duration;

use anyhow::Result;
use ferrolb_interop_tests::book::{Page, Shell};
use ferrolb_interop_tests::kube::{Pod, Rack};
use ferrolb_interop_tests::lan::Host;
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_interop_tests::router::await_sessions;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};

use super::networks::on;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The proxies of the implementations: namespace, name, node, and the labels that the Services of
/// the page select.
const PROXIES: &[(&str, &str, usize, &[&str])] = &[
    (
        "envoy-gateway-system",
        "envoy-eg",
        0,
        &[
            "app.kubernetes.io/component=proxy",
            "app.kubernetes.io/managed-by=envoy-gateway",
            "app.kubernetes.io/name=envoy",
            "gateway.envoyproxy.io/owning-gateway-name=eg",
            "gateway.envoyproxy.io/owning-gateway-namespace=default",
        ],
    ),
    (
        "default",
        "web-nginx",
        0,
        &[
            "app.kubernetes.io/name=web-nginx",
            "gateway.networking.k8s.io/gateway-name=web",
        ],
    ),
    ("default", "envoy-web", 1, &["app=envoy-web"]),
];

#[test]
pub(super) fn clouds_and_gateways() {
    scenario("book-gateways", |scratch| {
        let topology = Topology::new(2)?;
        let client = Host::new(&topology, "client", 100)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_ferrolb_crds()?;
        rack.cp.apply(&manifest::ferrolb_peer(TOR_IPV4, ""))?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        let nodes = topology.nodes.iter();
        let peers = nodes.map(|node| node.ipv4.into()).collect();
        await_sessions(&rack.router, &peers, TIMEOUT)?;
        clouds(scratch, &rack, &client)?;
        gateways(scratch, &rack)
    });
}

/// A shell with kubectl and ferrolb, as on the laptop of an administrator.
fn laptop<'lab>(scratch: &Scratch, rack: &'lab Rack<'_>, name: &str) -> Result<Shell<'lab>> {
    let folder = scratch.file(&format!("shell-{name}"));
    Shell::new(&folder, || rack.cp.command("bash"))?
        .administrator(&rack.cp, &folder)?
        .program("ferrolb", &ferrolb()?)
}

fn clouds(scratch: &Scratch, rack: &Rack<'_>, client: &Host) -> Result<()> {
    rack.cp.exclude_node("node1", true)?;
    let mut page = Page::read("docs/clouds.md")?;
    let first = on(scratch, "first", &rack.topology.nodes[0].namespace)?;
    let second = on(scratch, "second", &rack.topology.nodes[1].namespace)?;
    let client = on(scratch, "client", &client.namespace)?;
    page.run("First node", &first)?;
    page.run("Client, before the move", &client)?;
    page.run("First node, the move", &first)?;
    page.run("Second node", &second)?;
    page.run("Client, after the move", &client)?;
    page.run("Second node, the end", &second)?;
    page.run_rest(&laptop(scratch, rack, "clouds")?)
}

fn gateways(scratch: &Scratch, rack: &Rack<'_>) -> Result<()> {
    rack.cp
        .kubectl(&["create", "namespace", "envoy-gateway-system"])?;
    for (number, (namespace, name, node, labels)) in (10..).zip(PROXIES) {
        let member = rack.data_path.members[*node];
        rack.cp.create_pod(&Pod {
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
            node: rack.topology.nodes[*node].name.clone(),
            app: (*name).to_owned(),
            addresses: vec![member.pod_address(number).into()],
        })?;
        let label = ["label", "--overwrite", "pod", name, "-n", namespace];
        rack.cp.kubectl(&[&label[..], labels].concat())?;
    }
    Page::read("docs/gateway-api.md")?.run_rest(&laptop(scratch, rack, "gateways")?)
}
