//! ferrolb in a real cluster: Services get addresses, the router behind FRR learns them, requests are answered.

use std::net::IpAddr;

use anyhow::ensure;
use ferrolb_interop_tests::kube::{ALLOCATOR_USER, ANNOUNCER_USER, Rack};
use ferrolb_interop_tests::process::scenario;
use ferrolb_interop_tests::topology::Topology;

/// One peer, one pool, everything announced.
const CONFIGURATION: &str = "
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
";

/// A Service of the Pods on all nodes.
fn service(name: &str, more: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
{more}
"
    )
}

#[test]
fn a_service_gets_an_address_a_route_and_an_answer() {
    scenario("thread", |scratch| {
        let mut topology = Topology::new(3)?;
        topology.add_client()?;
        let rack = Rack::start(scratch, &topology, "ebgp", CONFIGURATION)?;
        rack.cp.apply(&service("web", ""))?;

        let addresses = rack.await_addresses("web")?;
        ensure!(addresses.len() == 1, "{addresses:?}");
        let address: IpAddr = addresses[0];
        let shown = rack.cp.kubectl(&["get", "svc", "web", "--no-headers"])?;
        ensure!(
            shown.split_whitespace().nth(3) == Some(&address.to_string()),
            "{shown}"
        );
        rack.await_routes(&rack.routes(&format!("{address}/32"), &[0, 1, 2])?)?;
        rack.await_answers(address, &[0, 1, 2])?;

        let writes = rack.cp.writes()?;
        ensure!(
            writes.iter().all(|write| write.user != ANNOUNCER_USER),
            "{writes:?}"
        );
        let of_services: Vec<_> = writes
            .iter()
            .filter(|write| write.resource.starts_with("services"))
            .collect();
        // One request writes everything there is to write.
        ensure!(
            of_services.len() == 1
                && of_services[0].user == ALLOCATOR_USER
                && of_services[0].resource == "services/status",
            "{of_services:?}"
        );
        Ok(())
    });
}
