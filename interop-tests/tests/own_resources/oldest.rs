//! The oldest API server that ferrolb supports.

use std::collections::BTreeSet;

use anyhow::ensure;
use ferrolb_interop_tests::kube::{ControlPlane, Metallb, OLDEST, Rack, deploy};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};

use super::specs;

/// The API server compiles the rules of the CRDs, and selects Services by `spec.type`.
#[test]
fn ferrolb_works_with_the_oldest_api_server_that_it_supports() {
    scenario("own-oldest", |scratch| {
        let cp = ControlPlane::start_oldest(scratch)?;
        let version = cp.get_raw("/version")?;
        ensure!(version["gitVersion"] == OLDEST, "{version}");
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        let file = deploy().join("ferrolb.yaml");
        cp.kubectl(&["apply", "--server-side", "-f", &file.to_string_lossy()])?;
        cp.await_ferrolb_kinds()?;
        specs::check(&cp, scratch)?;

        let topology = Topology::new(2)?;
        let mut rack = Rack::around(cp, scratch, &topology, "ebgp")?;
        rack.cp.apply(&manifest::join(&[
            &manifest::ferrolb_peer(TOR_IPV4, ""),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
        ]))?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        for (name, policy) in [("web", "Cluster"), ("local", "Local")] {
            let policy = format!("externalTrafficPolicy: {policy},");
            rack.cp.apply(&manifest::service(name, "", &policy))?;
        }
        let mut routes = BTreeSet::new();
        for name in ["web", "local"] {
            let prefix = format!("{}/32", rack.await_addresses(name)?[0]);
            routes.extend(rack.routes(&prefix, &[0, 1])?);
        }
        rack.await_routes(&routes)
    });
}
