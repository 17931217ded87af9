//! Announcers and layer 2 without an allocator: another program writes the addresses of Services.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Rack};
use ferrolb_interop_tests::lan::{Host, answers, mac};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::json;

use super::{LOCAL, TIMEOUT};

/// The addresses that the other program gives, and what is announced of them.
const CONFIGURATION: &str = "
apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1, drain: {time: 0s}}
---
apiVersion: ferrolb.io/v1alpha1
kind: IPAddressPool
metadata: {name: theirs, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: ferrolb.io/v1alpha1
kind: IPAddressPool
metadata: {name: segment, namespace: metallb-system}
spec: {addresses: [10.99.0.240-10.99.0.247]}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPAdvertisement
metadata: {name: theirs, namespace: metallb-system}
spec: {ipAddressPools: [theirs], loadBalancerClasses: [example.org/theirs]}
---
apiVersion: ferrolb.io/v1alpha1
kind: L2Advertisement
metadata: {name: segment, namespace: metallb-system}
spec: {ipAddressPools: [segment], loadBalancerClasses: [any]}
";

const CLASS: &str = "loadBalancerClass: example.org/theirs,";

/// Writes the status of a Service, as the other program does.
fn set_address(cp: &ControlPlane<'_>, service: &str, address: &str) -> Result<()> {
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": address }] } } });
    let patch = [
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ];
    cp.kubectl(&[&["patch", "service", service], &patch[..]].concat())?;
    Ok(())
}

#[test]
fn announcers_alone_announce_addresses_that_another_program_wrote() {
    scenario("other-ipam", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_ferrolb_crds()?;
        rack.cp.apply(CONFIGURATION)?;
        let mut layer2 = Vec::new();
        for node in &topology.nodes {
            rack.announcers.push(Ferrolb::announcer(&rack.cp, node)?);
            layer2.push(Ferrolb::layer2(&rack.cp, node)?);
        }
        rack.announcers
            .iter_mut()
            .try_for_each(Ferrolb::await_ready)?;

        // BGP: of the class that the advertisement lists, and without a class.
        rack.cp
            .apply(&manifest::service("web", "", &format!("{CLASS} {LOCAL}")))?;
        set_address(&rack.cp, "web", "192.0.2.7")?;
        let both = rack.routes("192.0.2.7/32", &[0, 1])?;
        rack.await_routes(&both)?;
        rack.await_answers("192.0.2.7".parse()?, &[0, 1])?;

        // An address outside of all pools, and a class that is not listed, withdraw it.
        set_address(&rack.cp, "web", "198.51.100.7")?;
        rack.await_routes(&rack.routes("192.0.2.7/32", &[])?)?;
        set_address(&rack.cp, "web", "192.0.2.7")?;
        rack.await_routes(&both)?;
        let other = CONFIGURATION.replace("[example.org/theirs]", "[example.org/other]");
        rack.cp.apply(&other)?;
        rack.await_routes(&rack.routes("192.0.2.7/32", &[])?)?;

        // Layer 2, of any class.
        let key = [
            "create",
            "secret",
            "generic",
            "-n",
            "metallb-system",
            "memberlist",
        ];
        let literal = "--from-literal=secretkey=a-key-that-the-lab-made-up";
        rack.cp.kubectl(&[&key[..], &[literal]].concat())?;
        layer2.iter_mut().try_for_each(Ferrolb::await_ready)?;
        rack.cp.apply(&manifest::service("segment", "", CLASS))?;
        set_address(&rack.cp, "segment", "10.99.0.240")?;
        let host = Host::new(&topology, "host", 100)?;
        let address: IpAddr = "10.99.0.240".parse()?;
        let nodes = topology.nodes.iter();
        let macs = nodes
            .map(|node| mac(&node.namespace))
            .collect::<Result<Vec<_>>>()?;
        eventually("one node answers ARP", TIMEOUT, || {
            let found = answers(&host.namespace, address)?;
            let is_node = found.iter().all(|mac| macs.contains(mac));
            ensure!(found.len() == 1 && is_node, "{found:?}, nodes {macs:?}");
            Ok(())
        })?;
        set_address(&rack.cp, "segment", "10.99.0.250")?;
        eventually("no node answers ARP", TIMEOUT, || {
            let found = answers(&host.namespace, address)?;
            ensure!(found.is_empty(), "{found:?}");
            Ok(())
        })
    });
}
