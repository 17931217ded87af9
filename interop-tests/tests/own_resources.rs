//! ferrolb's own BGPPeer in a real API server: what its definition lets in, and how it lives beside MetalLB's.

use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Rack, manifests};
use ferrolb_interop_tests::process::scenario;
use ferrolb_interop_tests::topology::Topology;

/// A definition that comes later is noticed within half a minute.
const SOON: Duration = Duration::from_secs(60);

const METALLBS: &str = "
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
spec: {peers: [tor, tor-own]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

const OWN_REFUSED: &str = r#"ferrolb_object_refused_bool{kind="BGPPeer.ferrolb.io",name="tor-own",namespace="metallb-system"}"#;

/// Our BGPPeer with this spec.
fn own(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: ferrolb.io/v1alpha1, kind: BGPPeer, metadata: {{name: {name}, namespace: metallb-system}}, \
         spec: {spec}}}"
    )
}

#[test]
fn our_own_bgp_peer_beside_metallbs() {
    scenario("own-peers", |scratch| {
        let mut topology = Topology::new(1)?;
        topology.add_client()?;
        let rack = Rack::start(scratch, &topology, "ebgp", METALLBS)?;
        let prefix = format!("{}/32", rack.await_addresses("web")?[0]);
        let routes = rack.routes(&prefix, &[0])?;
        rack.await_routes(&routes)?;
        let announcer = &rack.announcers[0];
        ensure!(
            !std::fs::read_to_string(announcer.log())?.contains("can't be read"),
            "that our definition is absent is nothing to complain of"
        );

        rack.cp.apply_path(&manifests().join("0-crds.yaml"))?;
        eventually("the definition is served", SOON, || {
            rack.cp
                .get(&["bgppeers.ferrolb.io", "-n", "metallb-system"])
        })?;
        what_the_definition_lets_in(&rack.cp)?;

        rack.cp.apply(&own(
            "tor-own",
            "{myASN: 64700, dynamicASN: auto, peerAddress: 10.99.0.1}",
        ))?;
        eventually("the younger of two is refused", SOON, || {
            ensure!(announcer.metric(OWN_REFUSED)? == 1.0);
            Ok(())
        })?;
        rack.await_routes(&routes)?;
        rack.cp.kubectl(&[
            "delete",
            "bgppeers.metallb.io",
            "tor",
            "-n",
            "metallb-system",
        ])?;
        announcer.await_log(&["resolved", "tor-own"], SOON)?;
        rack.await_routes(&routes)
    });
}

fn what_the_definition_lets_in(cp: &ControlPlane<'_>) -> Result<()> {
    let good = [
        "{myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.7}",
        // All that MetalLB has, but for what excludes other fields.
        "{myASN: 64700, peerASN: 64600, localASN: 64701, peerAddress: 10.99.0.7, sourceAddress: 10.99.0.11, peerPort: 1790, \
         holdTime: 90s, keepaliveTime: 30s, connectTime: 5s, routerID: 1.2.3.4, passwordSecret: {name: s}, bfdProfile: b, \
         nodeSelectors: [{matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}]}], \
         enableGracefulRestart: true, ebgpMultiHop: true, vrf: '', dualStackAddressFamily: true, disableMP: false}",
        "{myASN: 64700, peerASN: 64600, interface: eth1}",
        "{myASN: 4200000000, dynamicASN: auto, peerNetwork: 'fd00::/64', passive: true, ttlSecurity: 254, \
         sourceInterface: eth1, sendHoldTime: 10m, prefixLimit: 1, restartTime: 1m30s, bfdProfile: b, bfdStrict: true, \
         shutdownText: bye, linkBandwidth: none, drain: {time: 0s, onCordon: true}, prepend: 16, med: 4294967295, holdTime: 0s}",
    ];
    for spec in good {
        cp.apply(&own("good", spec))?;
        cp.kubectl(&[
            "delete",
            "bgppeers.ferrolb.io",
            "good",
            "-n",
            "metallb-system",
        ])?;
    }
    let base = "myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.7";
    let bad = [
        ("peerASN: 64600, peerAddress: 10.99.0.7", "spec.myASN"),
        (
            "myASN: 64700, peerAddress: 10.99.0.7",
            "set either peerASN or dynamicASN",
        ),
        (
            "myASN: 64700, peerASN: 64600",
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        (
            &format!("{base}, peerNetwork: 10.0.0.0/8"),
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        (
            &format!("{base}, dynamicASN: external"),
            "set either peerASN or dynamicASN",
        ),
        (
            &format!("{base}, password: p, passwordSecret: {{name: s}}"),
            "set at most one of password and passwordSecret",
        ),
        (
            &format!("{base}, holdTime: 2s"),
            "holdTime is 0s, or 3s and more",
        ),
        (
            &format!("{base}, holdTime: 9s, keepaliveTime: 10s"),
            "keepaliveTime is longer than holdTime",
        ),
        (
            &format!("{base}, ttlSecurity: 1, ebgpMultiHop: true"),
            "remove ebgpMultiHop",
        ),
        (&format!("{base}, ttlSecurity: 255"), "spec.ttlSecurity"),
        (&format!("{base}, bfdStrict: true"), "set bfdProfile"),
        (
            &format!("{base}, restartTime: 9s, enableGracefulRestart: false"),
            "restartTime conflicts",
        ),
        (
            &format!("{base}, linkBandwidth: heavy"),
            "spec.linkBandwidth",
        ),
        (&format!("{base}, peerPort: 17000"), "spec.peerPort"),
    ];
    for (spec, message) in bad {
        let Err(error) = cp.apply(&own("bad", &format!("{{{spec}}}"))) else {
            anyhow::bail!("{spec} was let in");
        };
        let error = format!("{error:#}");
        ensure!(error.contains(message), "{spec}: {error}");
    }
    Ok(())
}
