//! Other hosts with an address of a Service.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::lan::{Host, LanCluster, answers, cached_answer, mac};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::answers::greeting;
use super::{Part, addresses, captured};

const TIMEOUT: Duration = Duration::from_secs(20);
/// A withheld address is probed again after 30 s.
const RETRIED: Duration = Duration::from_secs(45);

pub(super) const PARTS: &[(&str, Part)] = &[
    (
        "before",
        an_address_in_use_is_withheld_until_its_host_leaves,
    ),
    ("after", an_owned_address_is_defended),
    ("beside", another_load_balancer_on_a_node_is_waited_for),
    ("proxy", a_service_proxy_that_answers_on_all_nodes_is_named),
];

fn give(host: &Host, address: IpAddr) -> Result<()> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    host.namespace
        .address("uplink", &format!("{address}/{length}"))
}

fn take(host: &Host, address: IpAddr) -> Result<()> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    let address = format!("{address}/{length}");
    let arguments = ["addr", "del", &address, "dev", "uplink"];
    host.namespace.ip(&arguments).map(drop)
}

fn an_address_in_use_is_withheld_until_its_host_leaves(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let printer = Host::new(&rack, "printer", 120)?;
    let foreign = mac(&printer.namespace)?;
    let used = addresses(1, 1);
    for &address in &used {
        give(&printer, address)?;
    }
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(2, 2), "")?;
    cluster.write_services()?;
    let all = [0, 1];
    all.iter()
        .try_for_each(|&node| cluster.start_daemon(node))?;
    cluster.await_peers(&all)?;
    for &address in &used {
        eventually(format!("{address} is withheld"), TIMEOUT, || {
            let reports = |node: usize| {
                let status = cluster.status(node)?;
                let address = &status["addresses"][address.to_string()];
                ensure!(address["owner"].is_null(), "{address}");
                Ok(address["reason"] == "AddressConflict"
                    && address["conflict"] == foreign.to_string())
            };
            let reported = all
                .into_iter()
                .map(reports)
                .collect::<Result<Vec<bool>>>()?;
            ensure!(
                reported.contains(&true),
                "{:?}",
                cluster.status(0)?["addresses"]
            );
            Ok(())
        })?;
        let found = answers(&cluster.client.namespace, address)?;
        ensure!(found == [foreign.clone()].into(), "{address}: {found:?}");
        let words = [&foreign.to_string(), &address.to_string()];
        let logged = |node| {
            let daemon = cluster.daemon(node)?;
            daemon.check_log(&words.map(String::as_str))
        };
        let logged: Vec<Result<()>> = all.into_iter().map(logged).collect();
        ensure!(logged.iter().any(Result::is_ok), "{logged:?}");
    }
    for &address in &used {
        take(&printer, address)?;
    }
    eventually("the addresses are taken", RETRIED, || cluster.owners(&all)).map(drop)
}

/// RFC 5227 §2.4(b): one announcement per conflict, at most every 10 s.
fn an_owned_address_is_defended(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(1, 0))?;
    let all = [0, 1];
    let address = cluster.addresses[0];
    let owner = cluster.await_owners(&all)?[&address];
    greeting(&cluster.client, address)?;
    let printer = Host::new(&rack, "printer", 120)?;
    let foreign = mac(&printer.namespace)?;
    let frames = captured(scratch, &mut cluster, "defence", |cluster| {
        give(&printer, address)?;
        let announce = ["-q", "-U", "-c", "1", "-I", "uplink", &address.to_string()];
        printer.namespace.run("arping", &announce)?;
        eventually("the conflict is reported", TIMEOUT, || {
            let status = cluster.status(owner)?;
            let found = &status["addresses"][address.to_string()]["conflict"];
            ensure!(*found == foreign.to_string(), "{found}");
            Ok(())
        })?;
        // The printer answers too, so that the self-test fails.
        let test = ["l2", "test", &address.to_string()];
        let Err(error) = cluster.ask(owner, &test) else {
            anyhow::bail!("the self-test passed");
        };
        let error = format!("{error:#}");
        ensure!(error.contains(&foreign.to_string()), "{error}");
        eventually("the client's cache", TIMEOUT, || {
            let cached = cached_answer(&cluster.client.namespace, address)?;
            ensure!(cached.as_ref() == Some(cluster.mac(owner)), "{cached:?}");
            Ok(())
        })
    })?;
    let claims = frames.frames()?;
    let mut claims = claims.iter().filter(|frame| frame.claims(address));
    ensure!(claims.any(|frame| frame.source == foreign));
    let broadcast = |text: &str| text.starts_with("ff:ff:ff:ff:ff:ff");
    let defences = claims
        .filter(|frame| frame.source == *cluster.mac(owner))
        .filter(|frame| broadcast(&frame.text));
    // The refresh of the address, once a minute, may follow.
    ensure!(
        (1..=2).contains(&defences.count()),
        "{:#?}",
        frames.frames()?
    );
    take(&printer, address)?;
    let owners = cluster.await_owners(&all)?;
    ensure!(owners[&address] == owner, "{owners:?}");
    ensure!(cluster.counter(owner, "addressConflicts")? >= 1);
    cluster
        .daemon(owner)?
        .check_log(&[&foreign.to_string(), &address.to_string()])
}

/// The kernel of each node has the addresses, as with kube-proxy in IPVS mode without strictARP.
fn a_service_proxy_that_answers_on_all_nodes_is_named(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(3, 0), "")?;
    for node in &rack.nodes {
        // The lab's kernel has no dummy interfaces.
        let add = ["link", "add", "kube-ipvs0", "type", "bridge"];
        node.namespace.ip(&add)?;
        node.namespace.ip(&["link", "set", "kube-ipvs0", "up"])?;
        for address in &cluster.addresses {
            let address = format!("{address}/32");
            node.namespace.address("kube-ipvs0", &address)?;
        }
    }
    cluster.write_services()?;
    let all = [0, 1, 2];
    all.iter()
        .try_for_each(|&node| cluster.start_daemon(node))?;
    cluster.await_peers(&all)?;
    eventually("an owner for each address", TIMEOUT, || {
        let status = cluster.status(0)?;
        for address in &cluster.addresses {
            let entry = &status["addresses"][address.to_string()];
            ensure!(entry["owner"].is_string(), "{entry}");
        }
        Ok(())
    })?;
    eventually("the service proxy is named", TIMEOUT, || {
        let named = all.map(|node| {
            cluster
                .daemon(node)?
                .check_log(&["IPVS", "strictARP: true"])
        });
        ensure!(named.iter().any(Result::is_ok), "{named:?}");
        Ok(())
    })
}

/// As during a move from MetalLB, whose speaker answers with the Ethernet address of its node.
fn another_load_balancer_on_a_node_is_waited_for(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(2, 1), "")?;
    cluster.write_services()?;
    let all = [0, 1, 2];
    let address = cluster.addresses[0];
    let speaker = &rack.nodes[2];
    let answered = format!("{address}/24");
    speaker.namespace.address("uplink", &answered)?;
    all.iter()
        .try_for_each(|&node| cluster.start_daemon(node))?;
    cluster.await_peers(&all)?;
    eventually("the address is withheld", TIMEOUT, || {
        let status = cluster.status(0)?;
        let entry = &status["addresses"][address.to_string()];
        ensure!(entry["owner"].is_null(), "{entry}");
        let reasons = all.map(|node| {
            let status = cluster.status(node)?;
            Ok(status["addresses"][address.to_string()]["reason"].clone())
        });
        let reasons = reasons.into_iter().collect::<Result<Vec<_>>>()?;
        ensure!(
            reasons.iter().any(|reason| reason == "OtherSpeaker"),
            "{reasons:?}"
        );
        Ok(())
    })?;
    let found = answers(&cluster.client.namespace, address)?;
    ensure!(found == [cluster.mac(2).clone()].into(), "{found:?}");
    let arguments = ["addr", "del", &answered, "dev", "uplink"];
    speaker.namespace.ip(&arguments)?;
    cluster.await_owners(&all).map(drop)
}
