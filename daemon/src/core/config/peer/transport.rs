//! The address of a BGPPeer and the settings of its TCP connection.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ferrolb_allocator::canonical;
use ferrolb_bgp::config::{Remote, Transport};
use ipnet::IpNet;

use super::{BGP_PORT, INTERNAL, PeerResource};
use crate::core::api::ferrolb::{FerrolbBgpPeerSpec, HOPS_MAX, INTERFACE_MAX};
use crate::core::api::metallb::{BgpPeerSpec, MAX_PORT};
use crate::core::api::{Errors, FieldError};

const ADDRESS: &str = "spec.peerAddress";

const INTERFACE: &str = "spec.interface";
const NETWORK: &str = "spec.peerNetwork";
const PORT: &str = "spec.peerPort";
const SOURCE: &str = "spec.sourceAddress";

/// Maximum number of addresses of a node that an error lists.
const LISTED_MAX: usize = 8;

/// The neighbor: a router, the router of an interface, or every router in a network.
pub(super) fn remote(
    spec: &BgpPeerSpec,
    ferrolb: &FerrolbBgpPeerSpec,
) -> Result<Remote, FieldError> {
    let address = ip(ADDRESS, &spec.peer_address)?;
    if !spec.interface.is_empty() {
        let conflict = |other: &str| {
            let message = format!("conflicts with {other}: remove one of them");
            Err(FieldError::new(INTERFACE, message))
        };
        return match (address, ferrolb.peer_network.as_str()) {
            (None, "") => Ok(Remote::unknown_on_link(port(spec)?)),
            (Some(_), _) => conflict("peerAddress"),
            (None, _) => conflict("peerNetwork"),
        };
    }
    match (address, ferrolb.peer_network.as_str()) {
        (Some(address), "") => Ok(Remote::Router(SocketAddr::new(address, port(spec)?))),
        (Some(_), _) => {
            let message = "conflicts with peerAddress: remove one of them";
            Err(FieldError::new(NETWORK, message))
        }
        (None, "") => {
            let message = "is missing: set the router's IP address, interface, or peerNetwork \
                 (ferrolb.io/v1alpha1)";
            Err(FieldError::new(ADDRESS, message))
        }
        (None, text) => network(spec, text),
    }
}

/// The port of the router.
fn port(spec: &BgpPeerSpec) -> Result<u16, FieldError> {
    let port = spec.peer_port.unwrap_or(BGP_PORT);
    if (1..=MAX_PORT).contains(&port) {
        return Ok(port);
    }
    let message = format!("{port} is not a port from 1 to {MAX_PORT}");
    Err(FieldError::new(PORT, message))
}

fn network(spec: &BgpPeerSpec, text: &str) -> Result<Remote, FieldError> {
    let network: Option<IpNet> = text.parse().ok();
    let network = network.ok_or_else(|| {
        let message = format!("{text:?} is not a network: write 10.0.0.0/24");
        FieldError::new(NETWORK, message)
    })?;
    if network.prefix_len() == 0 {
        let message = "would accept every address: set the network of the routers";
        return Err(FieldError::new(NETWORK, message));
    }
    if spec.peer_port.is_some() {
        let message = "has no effect with peerNetwork, because the routers connect to this node: \
            remove it, or use peerAddress";
        return Err(FieldError::new(PORT, message));
    }
    Ok(Remote::Network(canonical(network).trunc()))
}

/// The settings of the TCP connection, without the password.
pub(super) fn transport(
    resource: PeerResource<'_>,
    ferrolb: &FerrolbBgpPeerSpec,
    remote: Option<Remote>,
    errors: &mut Errors,
) -> Option<Transport> {
    const TTL: &str = "spec.ttlSecurity";
    let spec = resource.spec;
    let source_address = match names_source_network(resource) {
        true => Some(None),
        false => errors.record(source_address(spec, remote)),
    };
    let source_interface = errors.record(source_interface(spec, ferrolb));
    if let Some(IpAddr::V6(address)) = remote.and_then(|remote| Some(remote.router()?.ip()))
        && address.is_unicast_link_local()
        && source_interface == Some(None)
    {
        let message = "is a link-local address: set its interface in sourceInterface \
            (ferrolb.io/v1alpha1), or use a global address";
        errors.add(FieldError::new("spec.peerAddress", message));
    }
    match ferrolb.ttl_security {
        Some(hops) if !(1..=HOPS_MAX).contains(&hops) => {
            let message = format!("{hops}: use 1 (the same link) to {HOPS_MAX} hops");
            errors.add(FieldError::new(TTL, message));
        }
        Some(_) if spec.ebgp_multi_hop => {
            let message = "already allows several hops: remove ebgpMultiHop";
            errors.add(FieldError::new(TTL, message));
        }
        _ => {}
    }
    Some(Transport {
        source_address: source_address?,
        source_interface: source_interface?,
        passive: ferrolb.passive,
        password: None,
        ttl_security: ferrolb.ttl_security,
        multihop: multihop_has_effect(spec),
    })
}

fn source_address(
    spec: &BgpPeerSpec,
    remote: Option<Remote>,
) -> Result<Option<IpAddr>, FieldError> {
    let source = ip(SOURCE, &spec.source_address)?;
    if source.is_some() {
        reject_with_interface(spec)?;
    }
    let (Some(address), Some(remote)) = (source, remote) else {
        return Ok(source);
    };
    if address.is_ipv4() != remote.is_ipv4() {
        let message = "is of another family than peerAddress or peerNetwork: set an address of the \
            same family";
        return Err(FieldError::new(SOURCE, message));
    }
    if Some(address) == remote.router().map(|router| router.ip()) {
        let message = "is the same as peerAddress: set an address of the node";
        return Err(FieldError::new(SOURCE, message));
    }
    Ok(source)
}

/// `sourceAddress` excludes `interface`.
fn reject_with_interface(spec: &BgpPeerSpec) -> Result<(), FieldError> {
    if spec.interface.is_empty() {
        return Ok(());
    }
    let message = "conflicts with interface: the session has the link-local address of the \
        interface; remove it";
    Err(FieldError::new(SOURCE, message))
}

/// Whether `sourceAddress` is meant as a network. MetalLB's BGPPeer accepts addresses only.
fn names_source_network(resource: PeerResource<'_>) -> bool {
    resource.ferrolb.is_some() && resource.spec.source_address.contains('/')
}

/// `sourceAddress`, if it is a network in a BGPPeer of ferrolb's.
pub(super) fn source_network(
    resource: PeerResource<'_>,
    remote: Option<Remote>,
) -> Result<Option<IpNet>, FieldError> {
    if !names_source_network(resource) {
        return Ok(None);
    }
    reject_with_interface(resource.spec)?;
    let text = &resource.spec.source_address;
    let error = |message: String| Err(FieldError::new(SOURCE, message));
    let Ok(network) = text.parse::<IpNet>() else {
        return error(format!(
            "{text:?} is neither an address nor a network: write 10.0.0.9 or 10.0.0.0/24"
        ));
    };
    let network = canonical(network).trunc();
    if network.prefix_len() == 0 {
        return error(format!(
            "{text} contains every address: set the network in which each node has one address, \
             or remove it to let the kernel choose"
        ));
    }
    if remote.is_some_and(|remote| remote.is_ipv4() != network.addr().is_ipv4()) {
        return error(
            "is of another family than peerAddress or peerNetwork: set a network of the same \
             family"
                .to_owned(),
        );
    }
    Ok(Some(network))
}

/// The error on a node without an address in `sourceAddress`.
pub(super) fn no_source_in(network: IpNet, addresses: &BTreeSet<IpAddr>) -> String {
    let family = addresses
        .iter()
        .filter(|address| address.is_ipv4() == network.addr().is_ipv4());
    let family: Vec<String> = family.map(ToString::to_string).collect();
    let others = family.len().saturating_sub(LISTED_MAX);
    let mut listed = match family[..family.len() - others].join(", ") {
        listed if listed.is_empty() => "none of that family".to_owned(),
        listed => listed,
    };
    if others > 0 {
        listed += &format!(" and {others} more");
    }
    format!(
        "{SOURCE}: no interface of the node has an address in {network}; its addresses are \
         {listed}: correct the network, add an address to the node, or exclude the node with \
         nodeSelectors"
    )
}

/// Whether `ebgpMultiHop` is set and the session may be eBGP with a router behind other routers. An
/// unnumbered router is on the link.
pub(in crate::core::config) fn multihop_has_effect(spec: &BgpPeerSpec) -> bool {
    spec.ebgp_multi_hop && spec.dynamic_asn != INTERNAL && spec.interface.is_empty()
}

/// The interface that the session is bound to.
fn source_interface(
    spec: &BgpPeerSpec,
    ferrolb: &FerrolbBgpPeerSpec,
) -> Result<Option<String>, FieldError> {
    const SOURCE: &str = "spec.sourceInterface";
    let source = interface(SOURCE, &ferrolb.source_interface)?;
    let unnumbered = interface(INTERFACE, &spec.interface)?;
    if unnumbered.is_some() && source.is_some() && source != unnumbered {
        let message = "conflicts with interface, which the session is bound to: remove it";
        return Err(FieldError::new(SOURCE, message));
    }
    Ok(unnumbered.or(source))
}

/// Checks the name of an interface by the kernel's rules.
fn interface(field: &str, name: &str) -> Result<Option<String>, FieldError> {
    if name.is_empty() {
        return Ok(None);
    }
    let is_invalid = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.len() > INTERFACE_MAX || name.contains(is_invalid) || name == "." || name == ".." {
        let message = format!(
            "{name:?} can't be the name of an interface: see ip link, at most {INTERFACE_MAX} \
             characters"
        );
        return Err(FieldError::new(field, message));
    }
    Ok(Some(name.to_owned()))
}

fn ip(path: &str, text: &str) -> Result<Option<IpAddr>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Some(address.to_canonical())),
        Err(_) => Err(FieldError::new(
            path,
            format!("{text:?} is not an IP address: {}", suggestion(path, text)),
        )),
    }
}

/// What to write instead of a text that contains more than an address, or no address.
fn suggestion(path: &str, text: &str) -> String {
    let address = |text: &str| text.parse::<IpAddr>().is_ok();
    if let Some((before, zone)) = text.split_once('%')
        && address(before)
    {
        return format!(
            "write {before:?} here and the interface in sourceInterface: {zone}, in a BGPPeer of \
             ferrolb.io/v1alpha1"
        );
    }
    if let Some((before, length)) = text.split_once('/')
        && address(before)
    {
        return format!("write {before:?}, without /{length}");
    }
    let socket: Option<SocketAddr> = text.parse().ok();
    match socket {
        Some(socket) if path == ADDRESS => {
            let (ip, port) = (socket.ip(), socket.port());
            format!("write \"{ip}\" here and the port in peerPort: {port}")
        }
        Some(socket) => format!("write \"{}\", without a port", socket.ip()),
        None => "write 10.0.0.1 or 2001:db8::1; names are not resolved".to_owned(),
    }
}
