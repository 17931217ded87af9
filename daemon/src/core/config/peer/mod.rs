//! BGPPeer: from the resource to what a session needs. MetalLB's and our own have the same shape, ours has more of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ferrolb_allocator::canonical;
use ferrolb_bgp::bfd::SessionConfig;
use ferrolb_bgp::config::{
    BfdOptions, PASSWORD_MAX, PeerConfig, Remote, RemoteAsn, Secret, Transport,
};
use ferrolb_bgp::wire::{Asn, Family};
use ipnet::IpNet;

use super::selector::Selectors;
use super::timers;
pub(crate) use crate::core::api::ferrolb::LinkBandwidth;
use crate::core::api::ferrolb::{
    FerrolbBgpPeerSpec, HOPS_MAX, INTERFACE_MAX, PREPEND_MAX, SHUTDOWN_TEXT_MAX,
};
use crate::core::api::metallb::{BgpPeerSpec, MAX_PORT, SecretReference};
use crate::core::api::{Errors, FieldError, ObjectKey, Password};
use crate::core::model::drain::Drain;

/// BGP's own port.
pub(crate) const BGP_PORT: u16 = 179;

/// A BGPPeer that has been checked. One session per node that its nodeSelectors select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name of the BGPPeer. Each route and each reason has it, so it is shared.
    pub name: Arc<str>,
    /// Which object that is: both API groups have BGPPeers.
    pub object: ObjectKey,
    /// When it was created (RFC 3339 in UTC; empty in manifests): of two that can't both run the older does.
    pub created: String,
    /// What the BGP engine is told, as far as it is the same on every node ([`crate::core::decide::peer_config`] adds the rest).
    pub session: PeerConfig,
    /// Its password is in a Secret that the input lacks: it has one, and which is not known.
    pub password_unknown: bool,
    /// Which nodes have this session.
    pub nodes: Selectors,
    /// Carry the other family as well.
    pub dual_stack: bool,
    /// Whether routes tell the weight of this node.
    pub link_bandwidth: LinkBandwidth,
    /// How routes leave when the node is to carry no more traffic.
    pub drain: Drain,
    /// How many times more than once our AS stands in AS_PATH; eBGP only.
    pub prepend: u8,
    /// MULTI_EXIT_DISC of all routes.
    pub med: Option<u32>,
}

impl Peer {
    /// Whether both ends are in one AS; none where only the session will tell.
    pub fn is_ibgp(&self) -> Option<bool> {
        is_ibgp(self.session.local_asn, self.session.remote_asn)
    }

    /// Whether the session runs over IPv6.
    pub fn is_ipv6(&self) -> bool {
        !self.session.remote.is_ipv4()
    }

    /// Whether prefixes of a family go over this session: its own family, and the other one only if asked to
    /// (`dualStackAddressFamily`).
    pub fn carries(&self, ipv6: bool) -> bool {
        self.dual_stack || self.is_ipv6() == ipv6
    }
}

fn is_ibgp(local: Asn, remote: RemoteAsn) -> Option<bool> {
    match remote {
        RemoteAsn::Number(asn) => Some(asn == local),
        RemoteAsn::Internal => Some(true),
        RemoteAsn::External => Some(false),
        RemoteAsn::Auto => None,
    }
}

/// A BGPPeer as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerResource<'a> {
    /// Which object it is.
    pub object: &'a ObjectKey,
    /// When it was created.
    pub created: &'a str,
    /// What MetalLB's BGPPeer has.
    pub spec: &'a BgpPeerSpec,
    /// What ours has beyond it; none for MetalLB's.
    pub own: Option<&'a FerrolbBgpPeerSpec>,
}

/// What is wrong with an option for eBGP.
const WITHIN_ONE_AS: &str = "is for eBGP, but myASN (or localASN) and peerASN (or dynamicASN) are one AS: \
                             leave it out";

/// Checks a BGPPeer. `secret` looks a password up (none: it is unknown here), `bfd` a BFDProfile.
///
/// # Errors
/// Every field that is wrong, and what would be right.
pub(crate) fn parse(
    resource: PeerResource<'_>,
    secret: impl FnOnce(&str) -> Result<Option<Password>, String>,
    bfd: impl FnOnce(&str) -> Result<SessionConfig, String>,
) -> Result<Peer, FieldError> {
    // Every field is named here or in the function it is handed to, so that a new one does not compile until somebody
    // decides what it means.
    let BgpPeerSpec {
        my_asn: _, // asns
        peer_asn: _,
        dynamic_asn: _,
        local_asn: _,
        peer_address: _, // remote
        interface,
        source_address: _, // transport
        peer_port: _,
        hold_time: _, // timers
        keepalive_time: _,
        connect_time: _,
        router_id,
        node_selectors,
        password: _, // password_of
        password_secret: _,
        bfd_profile,
        enable_graceful_restart: _, // timers
        ebgp_multi_hop: _,          // asns, transport
        vrf,
        dual_stack_address_family,
        disable_mp: _, // deprecated upstream, without effect there too
    } = resource.spec;
    let nothing = FerrolbBgpPeerSpec::default();
    let own = resource.own.unwrap_or(&nothing);
    let FerrolbBgpPeerSpec {
        peer_network: _, // remote
        passive: _,      // transport
        ttl_security: _,
        source_interface: _,
        send_hold_time: _, // timers
        prefix_limit,
        restart_time: _, // timers
        bfd_strict,
        shutdown_text,
        link_bandwidth,
        drain,
        prepend,
        med,
    } = own;
    let spec = resource.spec;
    let mut errors = Errors::default();
    refuse_unsupported(interface, vrf, !spec.peer_address.is_empty(), &mut errors);
    let asns = asns(spec, resource.own.is_some(), &mut errors);
    // Without an address, what is wrong with `interface` says all.
    let is_unnumbered = !interface.is_empty() && spec.peer_address.is_empty();
    let remote = if is_unnumbered {
        None
    } else {
        errors.record(remote(spec, own))
    };
    let transport = transport(spec, own, remote, &mut errors);
    let password = errors.record(password_of(spec, secret));
    let bfd = errors.record(bfd_options(bfd_profile, *bfd_strict, bfd));
    let with_bfd = !bfd_profile.is_empty();
    let restart = errors.record(timers::graceful_restart(spec, resource.own, with_bfd));
    let timers = timers::timers(spec, own, &mut errors);
    let router_id = errors.record(router_id_of(router_id));
    let prefix_limit = errors.record(limit(*prefix_limit));
    let shutdown_text = errors.record(text(shutdown_text));
    let nodes = errors.record(Selectors::parse("spec.nodeSelectors", node_selectors));
    let drain = errors.record(timers::drain(drain));
    errors.record(check_prepend(*prepend, asns));
    let name = &resource.object.name.name;
    let peer = || {
        let (local_asn, remote_asn) = asns?;
        let remote = remote?;
        let session = PeerConfig {
            remote,
            router_id: router_id?,
            transport: Transport {
                password: password?,
                ..transport?
            },
            timers: timers?,
            families: families(remote, *dual_stack_address_family),
            graceful_restart: restart?,
            bfd: bfd?,
            prefix_limit: prefix_limit?,
            shutdown_text: shutdown_text?,
            ..PeerConfig::new(name.clone(), UNUSED, local_asn, remote_asn)
        };
        Some(Peer {
            name: name.as_str().into(),
            object: resource.object.clone(),
            created: resource.created.to_owned(),
            session,
            password_unknown: false,
            nodes: nodes?,
            dual_stack: *dual_stack_address_family,
            link_bandwidth: *link_bandwidth,
            drain: drain?,
            prepend: *prepend,
            med: *med,
        })
    };
    let peer = errors.into_result(peer())?;
    // What the engine would refuse is refused here, where it is seen by `check` too.
    match peer.session.check() {
        Ok(()) => Ok(peer),
        Err(error) => Err(FieldError::new("spec", error.to_string())),
    }
}

/// What the session carries.
fn families(remote: Remote, both: bool) -> Vec<Family> {
    match (both, remote.is_ipv4()) {
        (true, _) => vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        (false, true) => vec![Family::IPV4_UNICAST],
        (false, false) => vec![Family::IPV6_UNICAST],
    }
}

/// Overwritten at once: [`PeerConfig::new`] wants a router, where there may be a network.
const UNUSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), BGP_PORT);

/// The `dynamicASN` of a session within one AS.
const INTERNAL: &str = "internal";

/// Our AS number on this session and the router's.
fn asns(spec: &BgpPeerSpec, own_group: bool, errors: &mut Errors) -> Option<(Asn, RemoteAsn)> {
    let local = errors.record(local_asn(spec));
    let remote = errors.record(remote_asn(spec, own_group));
    let (local, remote) = (local?, remote?);
    if spec.ebgp_multi_hop && remote == RemoteAsn::Number(local) {
        errors.add(FieldError::new("spec.ebgpMultiHop", WITHIN_ONE_AS));
    }
    Some((local, remote))
}

fn local_asn(spec: &BgpPeerSpec) -> Result<Asn, FieldError> {
    let error = |field: &str, message: &str| Err(FieldError::new(field, message));
    if spec.my_asn == 0 {
        return error("spec.myASN", "is missing or 0: give our AS number");
    }
    match spec.local_asn {
        Some(0) => error("spec.localASN", "must not be 0: leave it out to use myASN"),
        local => Ok(Asn(local.unwrap_or(spec.my_asn))),
    }
}

fn remote_asn(spec: &BgpPeerSpec, own_group: bool) -> Result<RemoteAsn, FieldError> {
    const DYNAMIC: &str = "spec.dynamicASN";
    let error = |field: &str, message: &str| Err(FieldError::new(field, message));
    match (spec.peer_asn, spec.dynamic_asn.as_str()) {
        (0, "") => error(
            "spec.peerASN",
            "is missing or 0: give the router's AS number, or dynamicASN",
        ),
        (asn, "") => Ok(RemoteAsn::Number(Asn(asn))),
        (0, INTERNAL) => Ok(RemoteAsn::Internal),
        (0, "external") => Ok(RemoteAsn::External),
        (0, "auto") if own_group => Ok(RemoteAsn::Auto),
        (0, "auto") => error(
            DYNAMIC,
            "\"auto\" is for BGPPeers of ferrolb.io/v1alpha1: change apiVersion, or use internal or external",
        ),
        (0, other) => {
            let auto = if own_group {
                ", external or auto"
            } else {
                " or external"
            };
            let message = format!("{other:?} is not internal{auto}");
            Err(FieldError::new(DYNAMIC, message))
        }
        (_, _) => error(
            DYNAMIC,
            "contradicts peerASN: keep one of them, the number or the kind",
        ),
    }
}

const ADDRESS: &str = "spec.peerAddress";

/// Who the neighbour is: a router, or every router of a network.
fn remote(spec: &BgpPeerSpec, own: &FerrolbBgpPeerSpec) -> Result<Remote, FieldError> {
    const NETWORK: &str = "spec.peerNetwork";
    const PORT: &str = "spec.peerPort";
    match (ip(ADDRESS, &spec.peer_address)?, own.peer_network.as_str()) {
        (Some(address), "") => {
            let port = spec.peer_port.unwrap_or(BGP_PORT);
            if !(1..=MAX_PORT).contains(&port) {
                let message = format!("{port} is not a port from 1 to {MAX_PORT}");
                return Err(FieldError::new(PORT, message));
            }
            Ok(Remote::Router(SocketAddr::new(address, port)))
        }
        (Some(_), _) => Err(FieldError::new(
            NETWORK,
            "and peerAddress are both set: keep one of them",
        )),
        (None, "") => Err(FieldError::new(
            ADDRESS,
            "is missing: give the router's IP address, or peerNetwork (ferrolb.io/v1alpha1)",
        )),
        (None, text) => {
            let network: Option<IpNet> = text.parse().ok();
            let network = network.ok_or_else(|| {
                FieldError::new(
                    NETWORK,
                    format!("{text:?} is not a network: write 10.0.0.0/24"),
                )
            })?;
            if network.prefix_len() == 0 {
                let message = "would let everybody in: give the network that the routers are in";
                return Err(FieldError::new(NETWORK, message));
            }
            if spec.peer_port.is_some() {
                let message = "is where to dial, but with peerNetwork instead of peerAddress routers dial us: \
                               leave it out";
                return Err(FieldError::new(PORT, message));
            }
            Ok(Remote::Network(canonical(network).trunc()))
        }
    }
}

/// How the TCP connection is made; without the password.
fn transport(
    spec: &BgpPeerSpec,
    own: &FerrolbBgpPeerSpec,
    remote: Option<Remote>,
    errors: &mut Errors,
) -> Option<Transport> {
    const TTL: &str = "spec.ttlSecurity";
    let source_address = errors.record(source_address(spec, remote));
    let source_interface = errors.record(interface(&own.source_interface));
    if let Some(IpAddr::V6(address)) = remote.and_then(|remote| Some(remote.router()?.ip()))
        && address.is_unicast_link_local()
        && source_interface == Some(None)
    {
        let message = "is a link-local address: name its interface in sourceInterface (ferrolb.io/v1alpha1), or \
                       give a global address";
        errors.add(FieldError::new("spec.peerAddress", message));
    }
    match own.ttl_security {
        Some(hops) if !(1..=HOPS_MAX).contains(&hops) => {
            let message = format!("{hops}: use 1 (the same link) to {HOPS_MAX} hops");
            errors.add(FieldError::new(TTL, message));
        }
        Some(_) if spec.ebgp_multi_hop => {
            let message = "counts the hops itself: leave ebgpMultiHop out";
            errors.add(FieldError::new(TTL, message));
        }
        _ => {}
    }
    Some(Transport {
        source_address: source_address?,
        source_interface: source_interface?,
        passive: own.passive,
        password: None,
        ttl_security: own.ttl_security,
        multihop: multihop_has_effect(spec),
    })
}

fn source_address(
    spec: &BgpPeerSpec,
    remote: Option<Remote>,
) -> Result<Option<IpAddr>, FieldError> {
    const SOURCE: &str = "spec.sourceAddress";
    let source = ip(SOURCE, &spec.source_address)?;
    let (Some(address), Some(remote)) = (source, remote) else {
        return Ok(source);
    };
    if address.is_ipv4() != remote.is_ipv4() {
        let message =
            "is of another family than peerAddress or peerNetwork: give an address of the same one";
        return Err(FieldError::new(SOURCE, message));
    }
    if Some(address) == remote.router().map(|router| router.ip()) {
        let message = "is the peer's address as well: a session has two ends";
        return Err(FieldError::new(SOURCE, message));
    }
    Ok(source)
}

/// Whether `ebgpMultiHop` is set and the session may be an external one.
pub(super) fn multihop_has_effect(spec: &BgpPeerSpec) -> bool {
    spec.ebgp_multi_hop && spec.dynamic_asn != INTERNAL
}

/// What the kernel takes as the name of an interface.
fn interface(name: &str) -> Result<Option<String>, FieldError> {
    if name.is_empty() {
        return Ok(None);
    }
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.len() > INTERFACE_MAX || name.contains(odd) || name == "." || name == ".." {
        let message = format!(
            "{name:?} can't be the name of an interface: see ip link, at most {INTERFACE_MAX} characters"
        );
        return Err(FieldError::new("spec.sourceInterface", message));
    }
    Ok(Some(name.to_owned()))
}

/// Fields that change the session in a way that ferrolb can't do yet: running without them would be another session
/// than the one that was asked for.
fn refuse_unsupported(interface: &str, vrf: &str, has_address: bool, errors: &mut Errors) {
    let mut refuse = |field: &str, remedy: &str| {
        let message = format!("is not supported yet: {remedy}");
        errors.add(FieldError::new(field, message));
    };
    if !interface.is_empty() {
        refuse(
            "spec.interface",
            if has_address {
                "leave it out, peerAddress says who the router is"
            } else {
                "give the router's address in peerAddress instead"
            },
        );
    }
    if !vrf.is_empty() {
        refuse(
            "spec.vrf",
            "leave it out, or keep this peer on another speaker",
        );
    }
}

fn bfd_options(
    profile: &str,
    strict: bool,
    lookup: impl FnOnce(&str) -> Result<SessionConfig, String>,
) -> Result<Option<BfdOptions>, FieldError> {
    if profile.is_empty() {
        return if strict {
            let message = "waits for BFD, but there is no bfdProfile: name one";
            Err(FieldError::new("spec.bfdStrict", message))
        } else {
            Ok(None)
        };
    }
    let session = lookup(profile).map_err(|message| FieldError::new("spec.bfdProfile", message))?;
    Ok(Some(BfdOptions { session, strict }))
}

fn limit(prefixes: Option<u32>) -> Result<Option<u32>, FieldError> {
    match prefixes {
        Some(0) => Err(FieldError::new(
            "spec.prefixLimit",
            "0 would end every session: leave it out, what is received is not kept",
        )),
        prefixes => Ok(prefixes),
    }
}

fn text(text: &str) -> Result<Option<String>, FieldError> {
    if text.len() > SHUTDOWN_TEXT_MAX {
        let message = format!(
            "has {} octets, a NOTIFICATION carries {SHUTDOWN_TEXT_MAX} (RFC 9003): shorten it",
            text.len()
        );
        return Err(FieldError::new("spec.shutdownText", message));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn check_prepend(prepend: u8, asns: Option<(Asn, RemoteAsn)>) -> Result<(), FieldError> {
    let error = |message: String| Err(FieldError::new("spec.prepend", message));
    let is_ibgp = asns.and_then(|(local, remote)| is_ibgp(local, remote));
    match prepend {
        0 => Ok(()),
        prepend if prepend > PREPEND_MAX => error(format!("{prepend}: use 0 to {PREPEND_MAX}")),
        _ if is_ibgp == Some(true) => error(WITHIN_ONE_AS.into()),
        _ => Ok(()),
    }
}

fn ip(path: &str, text: &str) -> Result<Option<IpAddr>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Some(address.to_canonical())),
        Err(_) => Err(FieldError::new(
            path,
            format!("{text:?} is not an IP address: {}", instead_of(path, text)),
        )),
    }
}

/// What to write instead of a text that is more than an address, or none.
fn instead_of(path: &str, text: &str) -> String {
    let address = |text: &str| text.parse::<IpAddr>().is_ok();
    if let Some((before, zone)) = text.split_once('%')
        && address(before)
    {
        return format!(
            "write {before:?} here and the interface in sourceInterface: {zone}, in a BGPPeer of ferrolb.io/v1alpha1"
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

fn router_id_of(text: &str) -> Result<Option<Ipv4Addr>, FieldError> {
    let error = || {
        let message = format!("{text:?} is not an IPv4 address other than 0.0.0.0 (RFC 6286)");
        FieldError::new("spec.routerID", message)
    };
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .ok()
            .filter(|id: &Ipv4Addr| !id.is_unspecified())
            .ok_or_else(error)
            .map(Some),
    }
}

fn password_of(
    spec: &BgpPeerSpec,
    secret: impl FnOnce(&str) -> Result<Option<Password>, String>,
) -> Result<Option<Secret>, FieldError> {
    let SecretReference { name, namespace: _ } = &spec.password_secret;
    let (field, password) = match (spec.password.reveal(), name.as_str()) {
        ("", "") => return Ok(None),
        (_, "") => ("spec.password", spec.password.clone()),
        ("", name) => {
            let field = "spec.passwordSecret";
            let found = secret(name).map_err(|message| FieldError::new(field, message))?;
            let Some(password) = found else {
                return Ok(None);
            };
            (field, password)
        }
        _ => {
            return Err(FieldError::new(
                "spec.password",
                "and passwordSecret are both set: keep one of them",
            ));
        }
    };
    match password.reveal().len() {
        1..=PASSWORD_MAX => Ok(Some(Secret::new(password.reveal()))),
        length => {
            let message =
                format!("the password has {length} octets, TCP MD5 takes 1 to {PASSWORD_MAX}");
            Err(FieldError::new(field, message))
        }
    }
}

#[cfg(test)]
mod tests;
