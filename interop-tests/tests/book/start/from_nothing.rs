//! From nothing to a working Service. The second page begins where the first one has cleaned up.

use anyhow::{Context, Result};
use ferrolb_interop_tests::book::Page;
use ferrolb_interop_tests::kube::{ControlPlane, Image, Nodes, RealNode};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::router::Kind;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;

use super::{busybox, machine, with_router};

/// A router without configuration.
const EMPTY: &str = "hostname tor\n";

#[test]
pub(crate) fn a_service_works_by_layer_2_and_then_by_bgp() {
    scenario("book-start", |scratch| {
        let mut rack = Topology::new(2)?;
        rack.add_client()?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        let images = [Image::ferrolb()?, busybox()];
        let _nodes = RealNode::start_all(&cp, &rack, &images)?;

        let laptop = on_the_lan(&rack, &cp)?;
        let shell = machine(scratch, &cp, &laptop, "layer2")?;
        Page::read("docs/start/layer2.md")?.run_rest(&shell)?;

        let mut router = Kind::Frr.configured(scratch, &rack.tor, EMPTY)?;
        router.start().context("the router")?;
        let client = rack.client()?;
        cp.join(client)?;
        let shell = machine(scratch, &cp, client, "bgp")?;
        let shell = with_router(scratch, shell, &rack.tor)?;
        Page::read("docs/start/bgp.md")?.run_rest(&shell)
    });
}

/// A machine in the network of the nodes that reaches the API server.
fn on_the_lan(rack: &Topology, cp: &ControlPlane<'_>) -> Result<Namespace> {
    let laptop = Namespace::new("laptop")?;
    Link::new((&laptop, "eth0"), (&rack.tor, "laptop"))?;
    rack.tor.attach("laptop", "rack")?;
    laptop.address("eth0", "10.99.0.100/24")?;
    cp.join(&laptop)?;
    Ok(laptop)
}
