//! Short forms of configurations, routes and inputs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::config::{HoldTime, PeerConfig};
use ferrolb_bgp::fsm::{Input, PeerRoutes, ShutdownMode};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ferrolb_bgp::wire::Asn;
use ipnet::IpNet;

use super::World;

/// A peer that is dialled at port 179.
pub(crate) fn peer(name: &str, address: &str, local_asn: u32, remote_asn: u32) -> PeerConfig {
    let address = SocketAddr::new(address.parse().unwrap(), 179);
    PeerConfig::new(name, address, Asn(local_asn), Asn(remote_asn))
}

/// A peer that is not dialled.
pub(crate) fn passive(mut config: PeerConfig) -> PeerConfig {
    config.transport.passive = true;
    config
}

/// Two hosts with one peer each. Host 0 is 10.0.0.1 in AS 65001 and dials "b". Host 1 is 10.0.0.2
/// in AS 65002, accepts connections of "a" and records its UPDATEs. `change` is applied to both
/// configurations.
pub(crate) fn pair(change: impl Fn(&mut PeerConfig)) -> World {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    let mut theirs = passive(peer("a", "10.0.0.1", 65002, 65001));
    theirs.receive = true;
    change(&mut ours);
    change(&mut theirs);
    world.input(1, Input::SetPeer(theirs));
    world.input(0, Input::SetPeer(ours));
    world
}

/// The [`pair`] with an established session.
pub(crate) fn established_pair(change: impl Fn(&mut PeerConfig)) -> World {
    let mut world = pair(change);
    world.run_until(seconds(2), "session established", World::established);
    world
}

/// For [`pair`]: sets the hold time.
pub(crate) fn hold_time(seconds: u16) -> impl Fn(&mut PeerConfig) {
    move |config| config.timers.hold_time = HoldTime::from_secs(seconds).unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A route that differs from others by its MED.
pub(crate) fn route(med: u32) -> Option<Route> {
    Some(Arc::new(RouteAttributes {
        med: Some(med),
        ..RouteAttributes::default()
    }))
}

/// Announces and withdraws prefixes at a peer.
pub(crate) fn routes(peer: &str, changes: Vec<(IpNet, Option<Route>)>) -> Input {
    Input::Routes(vec![PeerRoutes {
        peer: peer.to_owned(),
        changes,
    }])
}

pub(crate) fn shutdown(text: &str, mode: ShutdownMode) -> Input {
    let text = text.to_owned();
    Input::Shutdown { text, mode }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
