//! BGPPeer: checks the resource and converts it into the settings of sessions. ferrolb's BGPPeer
//! has the fields of MetalLB's and further ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ferrolb_allocator::canonical;
use ferrolb_bgp::bfd::SessionConfig;
use ferrolb_bgp::config::limits::PASSWORD_MAX;
use ferrolb_bgp::config::{BfdOptions, PeerConfig, Remote, RemoteAsn, Secret, Transport};
use ferrolb_bgp::wire::{self, Asn};
use ipnet::IpNet;

use super::selector::Selectors;
use super::timers;
pub(crate) use crate::core::api::ferrolb::LinkBandwidth;
use crate::core::api::ferrolb::{
    FerrolbBgpPeerSpec, HOPS_MAX, INTERFACE_MAX, PREPEND_MAX, SHUTDOWN_TEXT_MAX,
};
use crate::core::api::metallb::{BgpPeerSpec, MAX_PORT, SecretReference};
use crate::core::api::{Errors, FieldError, ObjectKey, Password};
use crate::core::model::Family;
use crate::core::model::drain::Drain;

/// The port of BGP (RFC 4271 §4).
pub(crate) const BGP_PORT: u16 = 179;

/// A checked BGPPeer: one session on each node that its nodeSelectors select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name of the BGPPeer. Shared, because every route and verdict has it.
    pub name: Arc<str>,
    /// The object: both API groups have BGPPeers.
    pub object: ObjectKey,
    /// When it was created (RFC 3339 in UTC; empty in manifests). The older one of two that
    /// conflict runs.
    pub created: String,
    /// The settings of the session that are the same on every node
    /// ([`crate::core::decide::peer_config`] adds the others).
    pub session: PeerConfig,
    /// Whether its password is unknown, because the input lacks the Secret.
    pub password_unknown: bool,
    /// The nodes that have this session.
    pub nodes: Selectors,
    /// Whether the session carries both families.
    pub dual_stack: bool,
    /// Whether routes carry the weight of the node.
    pub link_bandwidth: LinkBandwidth,
    /// How routes are withdrawn when the node must receive no more traffic.
    pub drain: Drain,
    /// How many extra times our AS appears in AS_PATH. eBGP only.
    pub prepend: u8,
    /// MULTI_EXIT_DISC of all routes.
    pub med: Option<u32>,
}

impl Peer {
    /// Whether the session is iBGP. None if that is known only when it is established.
    pub fn is_ibgp(&self) -> Option<bool> {
        is_ibgp(self.session.local_asn, self.session.remote_asn)
    }

    /// The family of the session's addresses.
    pub fn family(&self) -> Family {
        Family::of(self.session.remote.network().addr())
    }

    /// Whether the session carries prefixes of a family: its own, and the other one with
    /// `dualStackAddressFamily`.
    pub fn carries(&self, family: Family) -> bool {
        self.dual_stack || self.family() == family
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

/// An unchecked BGPPeer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerResource<'a> {
    /// The object.
    pub object: &'a ObjectKey,
    /// When it was created.
    pub created: &'a str,
    /// The fields of MetalLB's BGPPeer.
    pub spec: &'a BgpPeerSpec,
    /// The further fields of ferrolb's BGPPeer. None for MetalLB's.
    pub own: Option<&'a FerrolbBgpPeerSpec>,
}

/// The error of an eBGP option on an iBGP session.
const WITHIN_ONE_AS: &str = "applies to eBGP only, but myASN (or localASN) and peerASN (or \
    dynamicASN) are the same AS: remove it";

/// Checks a BGPPeer. `secret` returns the password of a Secret (none if it is unknown here), `bfd`
/// the settings of a BFDProfile.
///
/// # Errors
/// Every invalid field, and what to write instead.
pub(crate) fn parse(
    resource: PeerResource<'_>,
    secret: impl FnOnce(&str) -> Result<Option<Password>, String>,
    bfd: impl FnOnce(&str) -> Result<SessionConfig, String>,
) -> Result<Peer, FieldError> {
    // Each field is listed here or in the function that reads it, so that a new one doesn't compile
    // until its meaning is decided.
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
        disable_mp: _, // deprecated by MetalLB, no effect there either
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
    reject_unsupported(interface, vrf, !spec.peer_address.is_empty(), &mut errors);
    let asns = asns(spec, resource.own.is_some(), &mut errors);
    // Without an address, the error about `interface` is enough.
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
    // Apply the engine's checks here, so that `ferrolb check` reports them too.
    match peer.session.check() {
        Ok(()) => Ok(peer),
        Err(error) => Err(FieldError::new("spec", error.to_string())),
    }
}

/// The families that the session carries.
fn families(remote: Remote, both: bool) -> Vec<wire::Family> {
    match (both, remote.is_ipv4()) {
        (true, _) => vec![wire::Family::IPV4_UNICAST, wire::Family::IPV6_UNICAST],
        (false, true) => vec![wire::Family::IPV4_UNICAST],
        (false, false) => vec![wire::Family::IPV6_UNICAST],
    }
}

/// A placeholder, overwritten at once: [`PeerConfig::new`] takes a router, but the peer may be a
/// network.
const UNUSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), BGP_PORT);

/// The `dynamicASN` of an iBGP session.
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
        return error("spec.myASN", "is missing or 0: set our AS number");
    }
    match spec.local_asn {
        Some(0) => error("spec.localASN", "must not be 0: remove it to use myASN"),
        local => Ok(Asn(local.unwrap_or(spec.my_asn))),
    }
}

fn remote_asn(spec: &BgpPeerSpec, own_group: bool) -> Result<RemoteAsn, FieldError> {
    const DYNAMIC: &str = "spec.dynamicASN";
    let error = |field: &str, message: &str| Err(FieldError::new(field, message));
    match (spec.peer_asn, spec.dynamic_asn.as_str()) {
        (0, "") => error(
            "spec.peerASN",
            "is missing or 0: set the router's AS number, or dynamicASN",
        ),
        (asn, "") => Ok(RemoteAsn::Number(Asn(asn))),
        (0, INTERNAL) => Ok(RemoteAsn::Internal),
        (0, "external") => Ok(RemoteAsn::External),
        (0, "auto") if own_group => Ok(RemoteAsn::Auto),
        (0, "auto") => error(
            DYNAMIC,
            "\"auto\" requires a BGPPeer of ferrolb.io/v1alpha1: change apiVersion, or use \
             internal or external",
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
        (_, _) => error(DYNAMIC, "conflicts with peerASN: remove one of them"),
    }
}

const ADDRESS: &str = "spec.peerAddress";

/// The neighbor: a router, or every router in a network.
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
            "conflicts with peerAddress: remove one of them",
        )),
        (None, "") => Err(FieldError::new(
            ADDRESS,
            "is missing: set the router's IP address, or peerNetwork (ferrolb.io/v1alpha1)",
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
                let message = "would accept every address: set the network of the routers";
                return Err(FieldError::new(NETWORK, message));
            }
            if spec.peer_port.is_some() {
                let message = "has no effect with peerNetwork, because the routers connect to this \
                    node: remove it";
                return Err(FieldError::new(PORT, message));
            }
            Ok(Remote::Network(canonical(network).trunc()))
        }
    }
}

/// The settings of the TCP connection, without the password.
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
        let message = "is a link-local address: set its interface in sourceInterface \
            (ferrolb.io/v1alpha1), or use a global address";
        errors.add(FieldError::new("spec.peerAddress", message));
    }
    match own.ttl_security {
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
        let message = "is of another family than peerAddress or peerNetwork: set an address of the same \
             family";
        return Err(FieldError::new(SOURCE, message));
    }
    if Some(address) == remote.router().map(|router| router.ip()) {
        let message = "is the same as peerAddress: set an address of the node";
        return Err(FieldError::new(SOURCE, message));
    }
    Ok(source)
}

/// Whether `ebgpMultiHop` is set and the session may be eBGP.
pub(super) fn multihop_has_effect(spec: &BgpPeerSpec) -> bool {
    spec.ebgp_multi_hop && spec.dynamic_asn != INTERNAL
}

/// Checks the name of an interface by the kernel's rules.
fn interface(name: &str) -> Result<Option<String>, FieldError> {
    if name.is_empty() {
        return Ok(None);
    }
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.len() > INTERFACE_MAX || name.contains(odd) || name == "." || name == ".." {
        let message = format!(
            "{name:?} can't be the name of an interface: see ip link, at most {INTERFACE_MAX} \
             characters"
        );
        return Err(FieldError::new("spec.sourceInterface", message));
    }
    Ok(Some(name.to_owned()))
}

/// Rejects unsupported fields that change the session: ignoring them would establish another
/// session than the requested one.
fn reject_unsupported(interface: &str, vrf: &str, has_address: bool, errors: &mut Errors) {
    let mut reject = |field: &str, remedy: &str| {
        let message = format!("is not supported yet: {remedy}");
        errors.add(FieldError::new(field, message));
    };
    if !interface.is_empty() {
        reject(
            "spec.interface",
            if has_address {
                "remove it, peerAddress already identifies the router"
            } else {
                "set the router's address in peerAddress instead"
            },
        );
    }
    if !vrf.is_empty() {
        reject(
            "spec.vrf",
            "remove it, or use another BGP speaker for this peer",
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
            let message = "requires BFD, but bfdProfile is not set: set it";
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
            "0 would close every session: remove it for no limit, received prefixes are not stored",
        )),
        prefixes => Ok(prefixes),
    }
}

fn text(text: &str) -> Result<Option<String>, FieldError> {
    if text.len() > SHUTDOWN_TEXT_MAX {
        let message = format!(
            "has {} octets, but at most {SHUTDOWN_TEXT_MAX} are allowed (RFC 9003): shorten it",
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

/// What to write instead of a text that contains more than an address, or no address.
fn instead_of(path: &str, text: &str) -> String {
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
                "conflicts with passwordSecret: remove one of them",
            ));
        }
    };
    match password.reveal().len() {
        1..=PASSWORD_MAX => Ok(Some(Secret::new(password.reveal()))),
        length => {
            let message =
                format!("the password has {length} octets, TCP MD5 requires 1 to {PASSWORD_MAX}");
            Err(FieldError::new(field, message))
        }
    }
}

#[cfg(test)]
mod tests;
