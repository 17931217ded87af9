//! Leaving and coming back (RFC 4724, RFC 8538).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::daemon::{CONFIG_NAMESPACE, Folder};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::process::{Scratch, signal_pid};
use ferrolb_interop_tests::router::RouteEntry;
use ferrolb_interop_tests::topology::{NODE_ASN, TOR_ASN, TOR_IPV4};

use crate::{AT_ONCE, Cell, UP};

/// Routes stay for at least that long while nobody announces them.
const AWAY: Duration = Duration::from_secs(2);

/// A process killed and started again keeps what it still announces throughout, and loses the rest.
pub(crate) fn back_in_time(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler().with("--graceful-restart", 20))?;
    announcer.kill()?;
    let routes = cell.routes()?;
    consistently("stale routes", AWAY, || held(cell, &routes))?;

    let [v4, _] = cell.prefixes();
    let kept: BTreeSet<RouteEntry> = routes
        .iter()
        .filter(|route| route.prefix == v4)
        .cloned()
        .collect();
    let _back = AnnounceExample::new(cell.scratch, cell.node())
        .with("--peer", TOR_IPV4)
        .with("--graceful-restart", 20)
        .with("--prefix", v4)
        .start()?;
    let mut lost = None;
    eventually("only what is announced again", UP, || {
        if let Err(error) = held(cell, &kept) {
            lost.get_or_insert(error);
        }
        cell.holds_exactly(&kept)
    })?;
    lost.map_or(Ok(()), |error| Err(error.context("a kept route was gone")))
}

pub(crate) fn not_back(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler().with("--graceful-restart", 6))?;
    announcer.kill()?;
    let routes = cell.routes()?;
    consistently("stale routes", AWAY, || held(cell, &routes))?;
    cell.await_routes(&BTreeSet::new(), UP)
}

/// A planned leave: TCP closes without a NOTIFICATION, and the routes stay until somebody is back.
pub(crate) fn preserved(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell
        .dialler()
        .with("--graceful-restart", 20)
        .flag("--preserve");
    let mut running = cell.run(&announcer)?;
    signal_pid("INT", running.pid())?;
    ensure!(running.wait_exit(AT_ONCE)?.success(), "it failed");
    let routes = cell.routes()?;
    consistently("preserved routes", AWAY, || held(cell, &routes))?;
    let _back = announcer.start()?;
    cell.await_return(|| held(cell, &routes))?;
    consistently("the routes", AWAY, || held(cell, &routes))
}

/// A peer whose configuration changes is told so by a Cease, and with the N bit the router keeps the routes.
pub(crate) fn kept_after_cease(cell: &Cell<'_>) -> Result<()> {
    const PORT: u16 = 179;
    let scratch = cell.scratch.within("cease")?;
    let folder = folder(cell, &scratch)?;
    folder.write("peer.yaml", &peer(PORT))?;
    let daemon = folder.run(cell.node())?;
    let routes = cell.routes()?;
    cell.await_routes(&routes, UP)?;

    // Nobody listens there: they stay without us.
    folder.write("peer.yaml", &peer(1790))?;
    let why = "sent Cease/Other Configuration Change";
    cell.await_said(&daemon, why, AT_ONCE)?;
    consistently("stale routes", AWAY, || held(cell, &routes))?;
    ensure!(!cell.in_session()?, "a session all the same");
    folder.write("peer.yaml", &peer(PORT))?;
    cell.await_return(|| held(cell, &routes))?;
    consistently("the routes", AWAY, || held(cell, &routes))
}

/// A peer that is configured no more is not to keep anything: where the N bit was exchanged, only a Hard Reset
/// says so. Nothing is withdrawn before.
pub(crate) fn hard_reset(cell: &Cell<'_>) -> Result<()> {
    let scratch = cell.scratch.within("hard-reset")?;
    let folder = folder(cell, &scratch)?;
    folder.write("peer.yaml", &peer(179))?;
    let daemon = folder.run(cell.node())?;
    cell.await_routes(&cell.routes()?, UP)?;
    folder.remove("peer.yaml")?;
    cell.await_said(&daemon, "sent Cease/Hard Reset", AT_ONCE)?;
    cell.await_routes(&BTreeSet::new(), AT_ONCE)
}

/// A peer with BFD, since ferrolb offers the N bit with it only. Routers without BFD have the session all the same.
fn peer(port: u16) -> String {
    format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor, namespace: {CONFIG_NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, peerASN: {TOR_ASN}, peerAddress: {TOR_IPV4}, peerPort: {port}, dualStackAddressFamily: true,
  holdTime: 9s, restartTime: 20s, bfdProfile: fast}}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {{name: fast, namespace: {CONFIG_NAMESPACE}}}
spec: {{receiveInterval: 100, transmitInterval: 100, detectMultiplier: 3}}
"
    )
}

/// Manifests of the node and of a service with the cell's prefixes, for the daemon; the peer is still to come.
pub(crate) fn folder<'a>(cell: &Cell<'_>, scratch: &'a Scratch) -> Result<Folder<'a>> {
    let [v4, v6] = cell.prefixes().map(|prefix| prefix.addr());
    let node = &cell.node().name;
    let folder = Folder::new(scratch)?;
    folder.write_node(cell.node(), &[])?;
    let text = format!(
        "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: public, namespace: {CONFIG_NAMESPACE}}}
spec: {{addresses: [{v4}/32, \"{v6}/128\"]}}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: public, namespace: {CONFIG_NAMESPACE}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, \"fd96::10\"]
  ipFamilies: [IPv4, IPv6]
  ports: [{{port: 80}}]
status: {{loadBalancer: {{ingress: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-4, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{{addresses: [10.244.0.5], nodeName: {node}, conditions: {{ready: true}}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-6, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv6
endpoints: [{{addresses: [\"fd24::5\"], nodeName: {node}, conditions: {{ready: true}}}}]
"
    );
    folder.write("service.yaml", &text)?;
    Ok(folder)
}

/// The router has these routes, and its kernel forwards to them.
fn held(cell: &Cell<'_>, routes: &BTreeSet<RouteEntry>) -> Result<()> {
    let table = cell.held()?;
    for route in routes {
        ensure!(table.contains(route), "{route} is gone");
        if cell.router.installs_routes() {
            let next_hops = cell.rack.tor.kernel_next_hops(&route.prefix.to_string())?;
            ensure!(
                next_hops.contains(&route.next_hop),
                "{route} is gone from the kernel"
            );
        }
    }
    Ok(())
}
