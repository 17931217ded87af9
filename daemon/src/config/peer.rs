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

use super::drain::Drain;
use super::selector::Selectors;
use super::timers;
pub use crate::api::ferrolb::LinkBandwidth;
use crate::api::ferrolb::{HOPS_MAX, INTERFACE_MAX, OwnPeerSpec, PREPEND_MAX, SHUTDOWN_TEXT_MAX};
use crate::api::metallb::{BgpPeerSpec, MAX_PORT, SecretReference};
use crate::api::{FieldError, ObjectKey, Password};

/// BGP's own port.
pub const BGP_PORT: u16 = 179;

/// A BGPPeer that has been checked. One session per node that its nodeSelectors select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name of the BGPPeer. Each route and each reason has it, so it is shared.
    pub name: Arc<str>,
    /// Which object that is: both API groups have BGPPeers.
    pub object: ObjectKey,
    /// When it was created (RFC 3339 in UTC; empty in manifests): of two that can't both run the older does.
    pub created: String,
    /// What the BGP engine is told, as far as it is the same on every node ([`crate::session`] adds the rest).
    pub session: PeerConfig,
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
        match self.session.remote_asn {
            RemoteAsn::Number(asn) => Some(asn == self.session.local_asn),
            RemoteAsn::Internal => Some(true),
            RemoteAsn::External => Some(false),
            RemoteAsn::Auto => None,
        }
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

/// A BGPPeer as it was read.
#[derive(Clone, Copy, Debug)]
pub struct PeerResource<'a> {
    /// Which object it is.
    pub object: &'a ObjectKey,
    /// When it was created.
    pub created: &'a str,
    /// What MetalLB's BGPPeer has.
    pub spec: &'a BgpPeerSpec,
    /// What ours has beyond it; none for MetalLB's.
    pub own: Option<&'a OwnPeerSpec>,
}

/// Checks a BGPPeer. `secret` looks a password up (none: it is unknown here), `bfd` a BFDProfile.
///
/// # Errors
/// The first field that is wrong, and what would be right.
pub fn parse(
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
    let nothing = OwnPeerSpec::default();
    let own = resource.own.unwrap_or(&nothing);
    let OwnPeerSpec {
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
    refuse_unsupported(interface, vrf, !resource.spec.peer_address.is_empty())?;
    let (local_asn, remote_asn) = asns(resource.spec, resource.own.is_some())?;
    let remote = remote(resource.spec, own)?;
    let mut transport = transport(resource.spec, own, remote)?;
    transport.password = password_of(resource.spec, secret)?;
    let bfd = bfd_options(bfd_profile, *bfd_strict, bfd)?;
    let own_family = [if remote.is_ipv4() {
        Family::IPV4_UNICAST
    } else {
        Family::IPV6_UNICAST
    }];
    let both = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    let name = &resource.object.name.name;
    let session = PeerConfig {
        remote,
        router_id: router_id_of(router_id)?,
        transport,
        timers: timers::timers(resource.spec, own)?,
        families: if *dual_stack_address_family {
            both.to_vec()
        } else {
            own_family.to_vec()
        },
        graceful_restart: timers::graceful_restart(resource.spec, resource.own, bfd.is_some())?,
        bfd,
        prefix_limit: limit(*prefix_limit)?,
        shutdown_text: text(shutdown_text)?,
        ..PeerConfig::new(name.clone(), UNUSED, local_asn, remote_asn)
    };
    // What the engine would refuse is refused here, where it is seen by `check` too.
    if let Err(error) = session.check() {
        return Err(FieldError::new("spec", error.to_string()));
    }
    let peer = Peer {
        name: name.as_str().into(),
        object: resource.object.clone(),
        created: resource.created.to_owned(),
        session,
        nodes: Selectors::parse("spec.nodeSelectors", node_selectors)?,
        dual_stack: *dual_stack_address_family,
        link_bandwidth: *link_bandwidth,
        drain: timers::drain(drain)?,
        prepend: *prepend,
        med: *med,
    };
    check_prepend(&peer)?;
    Ok(peer)
}

/// Overwritten at once: [`PeerConfig::new`] wants a router, where there may be a network.
const UNUSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), BGP_PORT);

/// The `dynamicASN` of a session within one AS.
const INTERNAL: &str = "internal";

fn asns(spec: &BgpPeerSpec, own_group: bool) -> Result<(Asn, RemoteAsn), FieldError> {
    const DYNAMIC: &str = "spec.dynamicASN";
    let error = |field: &str, message: &str| Err(FieldError::new(field, message));
    if spec.my_asn == 0 {
        return error("spec.myASN", "is missing or 0: give our AS number");
    }
    let local = match spec.local_asn {
        Some(0) => return error("spec.localASN", "must not be 0: leave it out to use myASN"),
        local => Asn(local.unwrap_or(spec.my_asn)),
    };
    let remote = match (spec.peer_asn, spec.dynamic_asn.as_str()) {
        (0, "") => {
            return error(
                "spec.peerASN",
                "is missing or 0: give the router's AS number, or dynamicASN",
            );
        }
        (asn, "") => RemoteAsn::Number(Asn(asn)),
        (0, INTERNAL) => RemoteAsn::Internal,
        (0, "external") => RemoteAsn::External,
        (0, "auto") if own_group => RemoteAsn::Auto,
        (0, "auto") => {
            return error(
                DYNAMIC,
                "\"auto\" is for BGPPeers of ferrolb.io/v1alpha1: change apiVersion, or use internal or external",
            );
        }
        (0, other) => {
            let auto = if own_group {
                ", external or auto"
            } else {
                " or external"
            };
            return Err(FieldError::new(
                DYNAMIC,
                format!("{other:?} is not internal{auto}"),
            ));
        }
        (_, _) => {
            return error(
                DYNAMIC,
                "contradicts peerASN: keep one of them, the number or the kind",
            );
        }
    };
    if spec.ebgp_multi_hop && remote == RemoteAsn::Number(local) {
        return error(
            "spec.ebgpMultiHop",
            "is for eBGP, but both ends are in one AS: leave it out",
        );
    }
    Ok((local, remote))
}

/// Who the neighbour is: a router, or every router of a network.
fn remote(spec: &BgpPeerSpec, own: &OwnPeerSpec) -> Result<Remote, FieldError> {
    const ADDRESS: &str = "spec.peerAddress";
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
            "is missing: give the router's IP address",
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
                let message =
                    "is where to dial, but routers of a peerNetwork dial us: leave it out";
                return Err(FieldError::new(PORT, message));
            }
            Ok(Remote::Network(canonical(network).trunc()))
        }
    }
}

/// How the TCP connection is made; without the password.
fn transport(
    spec: &BgpPeerSpec,
    own: &OwnPeerSpec,
    remote: Remote,
) -> Result<Transport, FieldError> {
    const SOURCE: &str = "spec.sourceAddress";
    const TTL: &str = "spec.ttlSecurity";
    let source_address = ip(SOURCE, &spec.source_address)?;
    if source_address.is_some_and(|source| source.is_ipv4() != remote.is_ipv4()) {
        let message =
            "is of another family than the peer's address: give an address of the same one";
        return Err(FieldError::new(SOURCE, message));
    }
    if source_address.is_some() && source_address == remote.router().map(|router| router.ip()) {
        let message = "is the peer's address as well: a session has two ends";
        return Err(FieldError::new(SOURCE, message));
    }
    let source_interface = interface(&own.source_interface)?;
    if let Some(IpAddr::V6(address)) = remote.router().map(|router| router.ip())
        && address.is_unicast_link_local()
        && source_interface.is_none()
    {
        let message = "is a link-local address: name its interface in sourceInterface (ferrolb.io/v1alpha1), or \
                       give a global address";
        return Err(FieldError::new("spec.peerAddress", message));
    }
    match own.ttl_security {
        Some(hops) if !(1..=HOPS_MAX).contains(&hops) => {
            let message = format!("{hops}: use 1 (the same link) to {HOPS_MAX} hops");
            return Err(FieldError::new(TTL, message));
        }
        Some(_) if spec.ebgp_multi_hop => {
            let message = "counts the hops itself: leave ebgpMultiHop out";
            return Err(FieldError::new(TTL, message));
        }
        _ => {}
    }
    Ok(Transport {
        source_address,
        source_interface,
        passive: own.passive,
        password: None,
        ttl_security: own.ttl_security,
        multihop: multihop_has_effect(spec),
    })
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
fn refuse_unsupported(interface: &str, vrf: &str, has_address: bool) -> Result<(), FieldError> {
    let refuse = |field: &str, remedy: &str| {
        Err(FieldError::new(
            field,
            format!("is not supported yet: {remedy}"),
        ))
    };
    if !interface.is_empty() {
        return refuse(
            "spec.interface",
            if has_address {
                "leave it out, peerAddress says who the router is"
            } else {
                "give the router's address in peerAddress instead"
            },
        );
    }
    if !vrf.is_empty() {
        return refuse(
            "spec.vrf",
            "leave it out, or keep this peer on another speaker",
        );
    }
    Ok(())
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

fn check_prepend(peer: &Peer) -> Result<(), FieldError> {
    let error = |message: String| Err(FieldError::new("spec.prepend", message));
    match peer.prepend {
        0 => Ok(()),
        prepend if prepend > PREPEND_MAX => error(format!("{prepend}: use 0 to {PREPEND_MAX}")),
        _ if peer.is_ibgp() == Some(true) => {
            error("is for eBGP, but both ends are in one AS: leave it out".into())
        }
        _ => Ok(()),
    }
}

fn ip(path: &str, text: &str) -> Result<Option<IpAddr>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed: IpAddr = text
        .parse()
        .map_err(|_| FieldError::new(path, format!("{text:?} is not an IP address")))?;
    Ok(Some(parsed.to_canonical()))
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
