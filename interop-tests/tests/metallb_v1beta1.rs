//! The forms of MetalLB's configuration before 0.14: BGPPeer v1beta1, AddressPools, and the
//! ConfigMap with the name that a Helm chart gave it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Metallb, Nodes, manifests};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::process::{ferrolb, run};
use ferrolb_interop_tests::router::{Bird, Router, await_sessions};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{NODE_ASN, TOR_ASN, TOR_IPV4, Topology, ipv4_addresses};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(60);
const PEER: &str = "bgppeers.v1beta1.metallb.io";

/// MetalLB's CRDs, with the older version of BGPPeer alone.
fn crds() -> Result<Vec<Value>> {
    let mut crds = Metallb::V0_14_9.crds()?;
    let mut found = crds
        .iter_mut()
        .filter(|crd| crd["metadata"]["name"] == "bgppeers.metallb.io");
    let peer = found.next().context("no CRD of BGPPeer")?;
    let versions = peer["spec"]["versions"].as_array_mut();
    let versions = versions.context("no versions")?;
    versions.retain(|version| version["name"] == "v1beta1");
    for version in versions {
        version["served"] = true.into();
        version["storage"] = true.into();
    }
    Ok(crds)
}

/// BGPPeer v1beta1 of the rack's router, for node1 alone.
fn peer() -> String {
    let only = ", nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node1}}]";
    manifest::metallb_peer(only).replace("metallb.io/v1beta2", "metallb.io/v1beta1")
}

#[test]
fn peers_of_the_older_version_are_read_and_followed() {
    scenario("v1beta1", |scratch| {
        let rack = Topology::new(2)?;
        let mut router = Bird::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": crds()?});
        cp.apply(&list.to_string())?;
        cp.kubectl(&["wait", "crd", "--all", "--for=condition=Established"])?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let objects = manifest::join(&[
            &peer(),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
            &manifest::service("web", "", ""),
        ]);
        eventually("the objects applied", TIMEOUT, || cp.apply(&objects))?;

        let mut processes = vec![Ferrolb::allocator(&cp, "allocator1")?];
        for node in &rack.nodes {
            processes.push(Ferrolb::announcer(&cp, node)?);
        }
        processes.iter_mut().try_for_each(Ferrolb::await_ready)?;
        let selected = ipv4_addresses(&[&rack.nodes[0]]);
        await_sessions(&router, &selected, TIMEOUT)?;
        let has_routes = || -> Result<bool> { Ok(!router.table()?.is_empty()) };
        eventually("a route of node1", TIMEOUT, || {
            ensure!(has_routes()?, "none");
            Ok(())
        })?;

        cp.kubectl(&["delete", PEER, "tor", "-n", NAMESPACE])?;
        eventually("the session ended", TIMEOUT, || {
            ensure!(!has_routes()?, "the route is still there");
            Ok(())
        })?;
        for process in &processes {
            let log = fs::read_to_string(process.log())?;
            ensure!(!log.contains("can't be read"), "{log}");
        }
        Ok(())
    });
}

/// The CRD of AddressPools, without the checks of MetalLB 0.13's.
fn address_pool_crd() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({
        "name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}
    });
    let names = json!({"kind": "AddressPool", "listKind": "AddressPoolList",
        "plural": "addresspools", "singular": "addresspool"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "addresspools.metallb.io"},
        "spec": {"group": "metallb.io", "names": names, "scope": "Namespaced",
            "versions": [version]}
    })
}

fn address_pool(protocol: &str) -> String {
    format!(
        "{{apiVersion: metallb.io/v1beta1, kind: AddressPool, metadata: {{name: old, namespace: \
         {NAMESPACE}}}, spec: {{protocol: {protocol}, addresses: [192.0.2.0/28], \
         bgpAdvertisements: [{{aggregationLength: 28}}]}}}}\n"
    )
}

/// Waits until the router has the routes to these prefixes, and no others.
fn await_prefixes(router: &Bird<'_>, expected: &[&str]) -> Result<()> {
    eventually(format!("{expected:?} at the router"), TIMEOUT, || {
        let table = router.table()?;
        let found: BTreeSet<String> = table.iter().map(|route| route.prefix.to_string()).collect();
        ensure!(found.iter().eq(expected), "{found:?}");
        Ok(())
    })
}

#[test]
fn address_pools_are_announced_by_their_protocol() {
    scenario("address-pools", |scratch| {
        let rack = Topology::new(2)?;
        let mut router = Bird::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        cp.install_metallb_crds(Metallb::V0_14_9)?;
        cp.apply(&address_pool_crd().to_string())?;
        cp.kubectl(&["wait", "crd", "--all", "--for=condition=Established"])?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let objects = manifest::join(&[
            &manifest::metallb_peer(""),
            &address_pool("bgp"),
            &manifest::service("web", "", ""),
        ]);
        eventually("the objects applied", TIMEOUT, || cp.apply(&objects))?;
        let mut processes = vec![Ferrolb::allocator(&cp, "allocator1")?];
        for node in &rack.nodes {
            processes.push(Ferrolb::announcer(&cp, node)?);
        }
        processes.iter_mut().try_for_each(Ferrolb::await_ready)?;
        await_prefixes(&router, &["192.0.2.0/28"])?;
        let addresses = || cp.service_addresses("default", "web");
        let before = addresses()?;

        // An invalid edit changes nothing, and is reported.
        cp.apply(&address_pool("ospf"))?;
        for process in &processes {
            let words = ["AddressPool metallb-system/old", "write layer2 or bgp"];
            process.await_log(&words, TIMEOUT)?;
        }
        await_prefixes(&router, &["192.0.2.0/28"])?;

        // What ferrolb convert prints replaces it.
        cp.apply(&address_pool("bgp"))?;
        let kind = "addresspools.metallb.io";
        let written = scratch.file("old.yaml");
        fs::write(
            &written,
            cp.kubectl(&["get", kind, "-n", NAMESPACE, "-o", "yaml"])?,
        )?;
        cp.apply(&run(Command::new(ferrolb()?).arg("convert").arg(&written))?)?;
        cp.kubectl(&["delete", kind, "old", "-n", NAMESPACE])?;
        for process in &processes {
            // The notice that the IPAddressPool has its addresses.
            let words = ["resolved", "AddressPool metallb-system/old"];
            process.await_log(&words, TIMEOUT)?;
        }
        await_prefixes(&router, &["192.0.2.0/28"])?;
        ensure!(
            addresses()? == before,
            "{before:?}, then {:?}",
            addresses()?
        );
        Ok(())
    });
}

/// The roles, for a ConfigMap of this name, as the chart's value existingConfigMap makes them.
fn roles(config_map: &str) -> Result<String> {
    let text = fs::read_to_string(manifests().join("2-rbac.yaml"))?;
    let changed = text.replace(
        "resourceNames: [config]",
        &format!("resourceNames: [{config_map}]"),
    );
    ensure!(changed != text, "no role names the ConfigMap");
    Ok(changed)
}

#[test]
fn a_config_map_of_another_name_is_read() {
    scenario("config-map-name", |scratch| {
        let rack = Topology::new(1)?;
        let mut router = Bird::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.apply_path(&manifests().join("1-namespace.yaml"))?;
        cp.apply(&roles("release-metallb")?)?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let text = format!(
            "peers:\n- peer-address: {TOR_IPV4}\n  peer-asn: {TOR_ASN}\n  my-asn: {NODE_ASN}\n\
             address-pools:\n- name: old\n  protocol: bgp\n  addresses: [192.0.2.0/28]\n"
        );
        let config_map = |text: &str| {
            let metadata = json!({"name": "release-metallb", "namespace": NAMESPACE});
            let data = json!({"config": text});
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        };
        cp.apply(&config_map(&text).to_string())?;
        cp.apply(&manifest::service("web", "", ""))?;
        let option = "--config-map=release-metallb";
        let mut processes = vec![
            Ferrolb::allocator(&cp, "allocator1")?,
            Ferrolb::announcer_with(&cp, &rack.nodes[0], &[option])?,
        ];
        processes[0].process().kill()?;
        processes[0].add_argument(option);
        processes[0].start_again()?;
        processes.iter_mut().try_for_each(Ferrolb::await_ready)?;
        await_prefixes(&router, &["192.0.2.0/32"])?;

        let explain = |arguments: &[&str]| -> Result<String> {
            let mut command = cp.command(ferrolb()?);
            command.args(["explain", "pool", "old"]).args(arguments);
            run(command.arg("--kubeconfig").arg(cp.admin_kubeconfig()))
        };
        let explained = explain(&[option])?;
        ensure!(explained.contains("192.0.2.0"), "{explained}");
        let unknown = explain(&[])
            .err()
            .context("it is known without the option")?;
        ensure!(format!("{unknown:#}").contains("old"), "{unknown:#}");

        // Lost indentation changes nothing, and the log says what was probably meant.
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        cp.apply(&config_map(&lines.join("\n")).to_string())?;
        for process in &processes {
            let words = [
                "line 3: peer-asn: has lost its indentation",
                "probably meant",
                "  my-asn",
            ];
            process.await_log(&words, TIMEOUT)?;
        }
        await_prefixes(&router, &["192.0.2.0/32"])
    });
}
