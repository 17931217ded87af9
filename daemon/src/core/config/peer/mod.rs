//! BGPPeer: checks the resource and converts it into the settings of sessions. ferrolb's BGPPeer
//! has the fields of MetalLB's and further ones.

mod transport;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ferrolb_bgp::bfd::SessionConfig;
use ferrolb_bgp::config::limits::PASSWORD_MAX;
use ferrolb_bgp::config::{BfdOptions, PeerConfig, Remote, RemoteAsn, Secret, Transport};
use ferrolb_bgp::wire::{self, Asn};
use ipnet::IpNet;

pub(super) use self::transport::multihop_has_effect;
use super::selector::Selectors;
use super::timers;
pub(crate) use crate::core::api::ferrolb::LinkBandwidth;
use crate::core::api::ferrolb::{FerrolbBgpPeerSpec, PREPEND_MAX, SHUTDOWN_TEXT_MAX};
use crate::core::api::metallb::{BgpPeerSpec, SecretReference};
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
    /// `sourceAddress` as a network: each node chooses its address in it
    /// ([`Self::with_source_in`]).
    pub source_network: Option<IpNet>,
    /// Whether its password is unknown, because the input lacks the Secret.
    pub password_unknown: bool,
    /// Where its password is, if it has one.
    pub password_place: Option<PasswordPlace>,
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

/// Where the password of a BGPPeer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordPlace {
    /// In its field `password`.
    Field,
    /// In the Secret of this name, in its namespace.
    Secret(String),
}

impl PasswordPlace {
    fn of(spec: &BgpPeerSpec) -> Option<Self> {
        match (spec.password.reveal(), spec.password_secret.name.as_str()) {
            ("", "") => None,
            (_, "") => Some(Self::Field),
            (_, secret) => Some(Self::Secret(secret.to_owned())),
        }
    }
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
    /// `dualStackAddressFamily` or if it is unnumbered.
    pub fn carries(&self, family: Family) -> bool {
        self.dual_stack || self.family() == family
    }

    /// The BGPPeer as it runs on a node with these addresses: from the lowest one in `network`,
    /// which is the same after a restart.
    ///
    /// # Errors
    /// The node has no address in it.
    pub fn with_source_in(
        &self,
        network: IpNet,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Self, String> {
        let Some(source) = lowest_in(network, addresses) else {
            return Err(transport::no_source_in(network, addresses));
        };
        let mut peer = self.clone();
        peer.session.transport.source_address = Some(source);
        Ok(peer)
    }
}

/// The lowest address in a network.
pub(crate) fn lowest_in<'a>(
    network: IpNet,
    addresses: impl IntoIterator<Item = &'a IpAddr>,
) -> Option<IpAddr> {
    let inside = addresses
        .into_iter()
        .filter(|address| network.contains(*address));
    inside.min().copied()
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
    /// The additional fields of ferrolb's BGPPeer. None for MetalLB's.
    pub ferrolb: Option<&'a FerrolbBgpPeerSpec>,
}

/// The error of an eBGP option on an iBGP session.
const EBGP_ONLY: &str = "applies to eBGP only, but myASN (or localASN) and peerASN (or \
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
    // Every field is listed here, in `session`, or in a function that these call, so that a new one
    // doesn't compile until its meaning is decided.
    let default = FerrolbBgpPeerSpec::default();
    let ferrolb = resource.ferrolb.unwrap_or(&default);
    let FerrolbBgpPeerSpec {
        peer_network: _, // session
        passive: _,
        ttl_security: _,
        source_interface: _,
        send_hold_time: _,
        prefix_limit: _,
        restart_time: _,
        bfd_strict: _,
        shutdown_text: _,
        link_bandwidth,
        drain,
        prepend,
        med,
    } = ferrolb;
    let spec = resource.spec;
    let mut errors = Errors::default();
    reject_unsupported(spec, &mut errors);
    let asns = asns(spec, resource.ferrolb.is_some(), &mut errors);
    let session = session(resource, ferrolb, asns, secret, bfd, &mut errors);
    let nodes = errors.record(Selectors::parse("spec.nodeSelectors", &spec.node_selectors));
    let remote = session.as_ref().map(|session| session.remote);
    let source_network = errors.record(transport::source_network(resource, remote));
    let drain = errors.record(timers::drain(drain));
    errors.record(check_prepend(*prepend, asns));
    let peer = || {
        Some(Peer {
            name: resource.object.name.name.as_str().into(),
            object: resource.object.clone(),
            created: resource.created.to_owned(),
            session: session?,
            source_network: source_network?,
            password_unknown: false,
            password_place: PasswordPlace::of(spec),
            nodes: nodes?,
            dual_stack: carries_both(spec),
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

/// The settings of the session. None if there is an error.
fn session(
    resource: PeerResource<'_>,
    ferrolb: &FerrolbBgpPeerSpec,
    asns: Option<(Asn, RemoteAsn)>,
    secret: impl FnOnce(&str) -> Result<Option<Password>, String>,
    bfd: impl FnOnce(&str) -> Result<SessionConfig, String>,
    errors: &mut Errors,
) -> Option<PeerConfig> {
    let BgpPeerSpec {
        my_asn: _, // asns
        peer_asn: _,
        dynamic_asn: _,
        local_asn: _,
        peer_address: _, // transport::remote
        interface: _,
        source_address: _, // transport::transport, transport::source_network
        peer_port: _,
        hold_time: _, // timers
        keepalive_time: _,
        connect_time: _,
        router_id,
        node_selectors: _, // parse
        password: _,       // password_of
        password_secret: _,
        bfd_profile,
        enable_graceful_restart: _,   // timers
        ebgp_multi_hop: _,            // asns, transport::transport
        vrf: _,                       // reject_unsupported
        dual_stack_address_family: _, // carries_both
        disable_mp: _,                // deprecated by MetalLB, no effect there either
    } = resource.spec;
    let spec = resource.spec;
    let remote = errors.record(transport::remote(spec, ferrolb));
    let transport = transport::transport(resource, ferrolb, remote, errors);
    let password = errors.record(password_of(spec, secret));
    let bfd = errors.record(bfd_options(bfd_profile, ferrolb.bfd_strict, bfd));
    let with_bfd = !bfd_profile.is_empty();
    let restart = errors.record(timers::graceful_restart(spec, resource.ferrolb, with_bfd));
    let timers = timers::timers(spec, ferrolb, errors);
    let router_id = errors.record(router_id_of(router_id));
    let prefix_limit = errors.record(check_prefix_limit(ferrolb.prefix_limit));
    let shutdown_text = errors.record(check_shutdown_text(&ferrolb.shutdown_text));
    let ((local_asn, remote_asn), remote) = (asns?, remote?);
    let name = resource.object.name.name.clone();
    Some(PeerConfig {
        remote,
        router_id: router_id?,
        transport: Transport {
            password: password?,
            ..transport?
        },
        timers: timers?,
        families: families(remote, carries_both(spec)),
        graceful_restart: restart?,
        bfd: bfd?,
        prefix_limit: prefix_limit?,
        shutdown_text: shutdown_text?,
        ..PeerConfig::new(name, PLACEHOLDER, local_asn, remote_asn)
    })
}

/// Whether the session carries both families: as configured, or always if it is unnumbered, since a
/// link-local next hop serves both (RFC 8950).
fn carries_both(spec: &BgpPeerSpec) -> bool {
    spec.dual_stack_address_family || !spec.interface.is_empty()
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
const PLACEHOLDER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), BGP_PORT);

/// The `dynamicASN` of an iBGP session.
const INTERNAL: &str = "internal";

/// Our AS number on this session and the router's.
fn asns(spec: &BgpPeerSpec, is_ferrolb: bool, errors: &mut Errors) -> Option<(Asn, RemoteAsn)> {
    let local = errors.record(local_asn(spec));
    let remote = errors.record(remote_asn(spec, is_ferrolb));
    let (local, remote) = (local?, remote?);
    if spec.ebgp_multi_hop && remote == RemoteAsn::Number(local) {
        errors.add(FieldError::new("spec.ebgpMultiHop", EBGP_ONLY));
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

fn remote_asn(spec: &BgpPeerSpec, is_ferrolb: bool) -> Result<RemoteAsn, FieldError> {
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
        (0, "auto") if is_ferrolb => Ok(RemoteAsn::Auto),
        (0, "auto") => error(
            DYNAMIC,
            "\"auto\" requires a BGPPeer of ferrolb.io/v1alpha1: change apiVersion, or use \
             internal or external",
        ),
        (0, other) => {
            let auto = if is_ferrolb {
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

/// Rejects unsupported fields that change the session: ignoring them would establish another
/// session than the requested one.
fn reject_unsupported(spec: &BgpPeerSpec, errors: &mut Errors) {
    let mut reject = |field: &str, remedy: &str| {
        let message = format!("is not supported yet: {remedy}");
        errors.add(FieldError::new(field, message));
    };
    if !spec.vrf.is_empty() {
        let remedy = "remove it, or use another BGP speaker for this peer";
        reject("spec.vrf", remedy);
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

fn check_prefix_limit(prefixes: Option<u32>) -> Result<Option<u32>, FieldError> {
    match prefixes {
        Some(0) => Err(FieldError::new(
            "spec.prefixLimit",
            "0 would close every session: remove it for no limit, received prefixes are not stored",
        )),
        prefixes => Ok(prefixes),
    }
}

fn check_shutdown_text(text: &str) -> Result<Option<String>, FieldError> {
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
        _ if is_ibgp == Some(true) => error(EBGP_ONLY.into()),
        _ => Ok(()),
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
