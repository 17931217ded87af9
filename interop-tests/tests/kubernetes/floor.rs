//! `minAnnouncers`: Events when fewer nodes announce a Service, and drains that don't undercut it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{ControlPlane, Rack};
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, service};
use ferrolb_interop_tests::router::check_table;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;

use super::{LOCAL, TIMEOUT, await_metric};

const OWN: &str = "
apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1, drain: {time: 1s}}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPAdvertisement
metadata: {name: ad, namespace: metallb-system}
spec: {minAnnouncers: 2}
";
const BELOW: &str = "ferrolb_services_below_min_announcers";

/// The reasons of the Events about `web` that concern the floor.
fn events(cp: &ControlPlane<'_>) -> Result<Vec<String>> {
    let events = cp.get(&["events", "-n", "default"])?;
    let events = events["items"].as_array().context("no items")?;
    let about = events
        .iter()
        .filter(|event| event["involvedObject"]["name"] == "web");
    let reasons = about.filter_map(|event| event["reason"].as_str());
    let reasons = reasons.filter(|reason| reason.starts_with("MinAnnouncers"));
    Ok(reasons.map(str::to_owned).collect())
}

#[test]
fn a_floor_is_not_undercut_by_a_drain_and_by_unready_endpoints_not_without_an_event() {
    scenario("floor", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_ferrolb_crds()?;
        let zero = OWN.replace("minAnnouncers: 2", "minAnnouncers: 0");
        let error = rack.cp.apply(&zero).err().context("it was accepted")?;
        ensure!(
            format!("{error:#}").contains("spec.minAnnouncers"),
            "{error:#}"
        );
        rack.cp.apply(OWN)?;
        let pool = manifest::pool("192.0.2.0/28");
        rack.cp
            .apply(&pool.replace("metallb.io/v1beta1", "ferrolb.io/v1alpha1"))?;
        rack.start_ferrolb()?;
        rack.cp.apply(&service("web", "", LOCAL))?;
        let prefix = format!("{}/32", rack.await_addresses("web")?[0]);
        let both = rack.routes(&prefix, &[0, 1])?;
        rack.await_routes(&both)?;
        let allocator = &rack.allocators[0];
        await_metric(allocator, BELOW, Some(0.0))?;
        ensure!(events(&rack.cp)?.is_empty(), "{:?}", events(&rack.cp)?);

        // A drain keeps the route, since too few other nodes announce it.
        let label = format!("{EXCLUDE_LABEL}=");
        rack.cp.kubectl(&["label", "node", "node1", &label])?;
        await_metric(allocator, BELOW, Some(1.0))?;
        consistently("both routes", Duration::from_secs(5), || {
            check_table(&rack.router, &both)
        })?;
        let label = format!("{EXCLUDE_LABEL}-");
        rack.cp.kubectl(&["label", "node", "node1", &label])?;
        await_metric(allocator, BELOW, Some(0.0))?;

        // However often an endpoint flaps, that is one Event.
        for _ in 0..3 {
            rack.cp.set_pod_ready("default", "web-node1", false)?;
            rack.await_routes(&rack.routes(&prefix, &[1])?)?;
            await_metric(allocator, BELOW, Some(1.0))?;
            rack.cp.set_pod_ready("default", "web-node1", true)?;
            rack.await_routes(&both)?;
            await_metric(allocator, BELOW, Some(0.0))?;
        }
        let found = events(&rack.cp)?;
        ensure!(found == ["MinAnnouncersNotMet"], "{found:?}");
        // It is back when that lasted for a minute.
        eventually("the Event that it is back", Duration::from_secs(90), || {
            let found = events(&rack.cp)?;
            ensure!(found.contains(&"MinAnnouncersMet".to_owned()), "{found:?}");
            Ok(())
        })?;
        let found = events(&rack.cp)?;
        ensure!(found.len() == 2, "{found:?}");
        let log = std::fs::read_to_string(rack.allocators[0].log())?;
        ensure!(!log.contains("forbidden"), "{log}");
        rack.allocators[0].await_log(&["MinAnnouncersMet"], TIMEOUT)
    });
}
