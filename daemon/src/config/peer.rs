//! BGPPeer: from the resource to what a session needs.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ferrolb_bgp::config::PASSWORD_MAX;
use ferrolb_bgp::wire::Asn;

use super::drain::Drain;
use super::selector::Selectors;
use crate::api::FieldError;
use crate::api::Password;
use crate::api::metallb::{BgpPeerSpec, SecretReference};
use crate::index::facts::Node;
use crate::session::peer_config;

/// BGP's own port.
const BGP_PORT: u16 = 179;
/// The largest port that MetalLB's CRD allows.
const MAX_PORT: u16 = 16384;
/// RFC 4271 §10.
const DEFAULT_HOLD_TIME: Duration = Duration::from_secs(90);

/// A BGPPeer that has been checked. One session per node that its nodeSelectors select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name of the BGPPeer.
    pub name: String,
    /// The router.
    pub address: IpAddr,
    /// The router's port.
    pub port: u16,
    /// Our AS on this session.
    pub local_asn: Asn,
    /// The router's AS.
    pub peer_asn: Asn,
    /// Where the session comes from, and what routes have as next hop.
    pub source: Option<IpAddr>,
    /// Configured router id.
    pub router_id: Option<Ipv4Addr>,
    /// 0 (no hold timer) or at least 3 s, whole seconds.
    pub hold_time: Duration,
    /// At most the hold time; absent: a third of it.
    pub keepalive_time: Option<Duration>,
    /// First wait before dialling again.
    pub connect_time: Option<Duration>,
    /// Which nodes have this session.
    pub nodes: Selectors,
    /// TCP MD5.
    pub password: Option<Password>,
    /// Carry the other family as well.
    pub dual_stack: bool,
    /// Whether routes tell the weight of this node.
    pub link_bandwidth: LinkBandwidth,
    /// How routes leave when the node is to carry no more traffic.
    pub drain: Drain,
}

/// Whether and how routes tell a peer the weight of this node (link bandwidth, RFC 10005).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkBandwidth {
    /// All nodes weigh the same.
    #[default]
    Off,
    /// As a transitive extended community: it passes through other ASes, and BIRD passes it on.
    Transitive,
    /// As a non-transitive one, the classic form that older routers know.
    NonTransitive,
}

impl Peer {
    /// Whether both ends are in one AS.
    pub fn is_ibgp(&self) -> bool {
        self.local_asn == self.peer_asn
    }

    /// Whether prefixes of a family go over this session: its own family, and the other one only if asked to
    /// (`dualStackAddressFamily`).
    pub fn carries(&self, ipv6: bool) -> bool {
        self.dual_stack || self.address.is_ipv6() == ipv6
    }
}

/// Checks a BGPPeer. `secret` looks a password up; `inactive` is told fields that have no effect yet.
///
/// # Errors
/// The first field that is wrong, and what would be right.
pub fn parse(
    name: &str,
    spec: &BgpPeerSpec,
    secret: impl FnOnce(&str) -> Result<Password, String>,
    mut inactive: impl FnMut(&'static str),
) -> Result<Peer, FieldError> {
    // Every field is named here, so that a new one does not compile until somebody decides what it means.
    let BgpPeerSpec {
        my_asn,
        peer_asn,
        dynamic_asn,
        local_asn,
        peer_address,
        interface,
        source_address,
        peer_port,
        hold_time,
        keepalive_time,
        connect_time,
        router_id,
        node_selectors,
        password,
        password_secret,
        bfd_profile,
        enable_graceful_restart,
        ebgp_multi_hop,
        vrf,
        dual_stack_address_family,
        disable_mp: _, // deprecated upstream, without effect there too
    } = spec;
    refuse_unsupported(interface, vrf, dynamic_asn)?;
    if !bfd_profile.is_empty() {
        inactive("spec.bfdProfile");
    }
    if *enable_graceful_restart {
        inactive("spec.enableGracefulRestart");
    }
    let (local_asn, peer_asn) = asns(*my_asn, *local_asn, *peer_asn, *ebgp_multi_hop)?;
    let (hold_time, keepalive_time) = timers(hold_time.as_deref(), keepalive_time.as_deref())?;
    let (address, source) = addresses(peer_address, source_address)?;
    let peer = Peer {
        name: name.to_owned(),
        address,
        port: port(*peer_port)?,
        local_asn,
        peer_asn,
        source,
        router_id: router_id_of(router_id)?,
        hold_time,
        keepalive_time,
        connect_time: connect_time.as_deref().map(connect_duration).transpose()?,
        nodes: Selectors::parse("spec.nodeSelectors", node_selectors)?,
        password: password_of(password, password_secret, secret)?,
        dual_stack: *dual_stack_address_family,
        link_bandwidth: LinkBandwidth::Off,
        drain: Drain::default(),
    };
    // What the engine would refuse is refused here, where it is seen by `check` too.
    match peer_config(&peer, "", &Node::default()).check() {
        Ok(()) => Ok(peer),
        Err(error) => Err(FieldError::new("spec", error.to_string())),
    }
}

fn asns(
    my_asn: u32,
    local_asn: Option<u32>,
    peer_asn: u32,
    multi_hop: bool,
) -> Result<(Asn, Asn), FieldError> {
    let error = |field: &str, message: &str| Err(FieldError::new(field, message));
    let local = local_asn.unwrap_or(my_asn);
    match (my_asn, local_asn, peer_asn) {
        (0, _, _) => error("spec.myASN", "is missing or 0: give our AS number"),
        (_, _, 0) => error(
            "spec.peerASN",
            "is missing or 0: give the router's AS number",
        ),
        (_, Some(0), _) => error("spec.localASN", "must not be 0: leave it out to use myASN"),
        _ if multi_hop && local == peer_asn => error(
            "spec.ebgpMultiHop",
            "is for eBGP, but both ends are in one AS: leave it out",
        ),
        _ => Ok((Asn(local), Asn(peer_asn))),
    }
}

fn addresses(peer: &str, source: &str) -> Result<(IpAddr, Option<IpAddr>), FieldError> {
    const PEER: &str = "spec.peerAddress";
    let missing = || FieldError::new(PEER, "is missing: give the router's IP address");
    let address = ip(PEER, peer)?.ok_or_else(missing)?;
    let source = ip("spec.sourceAddress", source)?;
    if source.is_some_and(|source| source.is_ipv6() != address.is_ipv6()) {
        let message = "is of another family than peerAddress: give an address of the same one";
        return Err(FieldError::new("spec.sourceAddress", message));
    }
    Ok((address, source))
}

fn port(port: Option<u16>) -> Result<u16, FieldError> {
    let port = port.unwrap_or(BGP_PORT);
    if (1..=MAX_PORT).contains(&port) {
        return Ok(port);
    }
    Err(FieldError::new(
        "spec.peerPort",
        format!("{port} is not a port from 1 to {MAX_PORT}"),
    ))
}

/// Fields that change the session in a way that ferrolb can't do yet: running without them would be another session
/// than the one that was asked for.
fn refuse_unsupported(interface: &str, vrf: &str, dynamic_asn: &str) -> Result<(), FieldError> {
    let refuse = |field: &str, remedy: &str| {
        Err(FieldError::new(
            field,
            format!("is not supported yet: {remedy}"),
        ))
    };
    if !interface.is_empty() {
        return refuse(
            "spec.interface",
            "give the router's address in peerAddress instead",
        );
    }
    if !vrf.is_empty() {
        return refuse(
            "spec.vrf",
            "leave it out, or keep this peer on another speaker",
        );
    }
    if !dynamic_asn.is_empty() {
        return refuse(
            "spec.dynamicASN",
            "give the router's AS number in peerASN instead",
        );
    }
    Ok(())
}

/// Hold time and keepalive time in whole seconds, as BGP carries them. What is below a second would be truncated to
/// "no timer at all", so it is refused.
fn timers(
    hold: Option<&str>,
    keepalive: Option<&str>,
) -> Result<(Duration, Option<Duration>), FieldError> {
    const KEEPALIVE: &str = "spec.keepaliveTime";
    let hold = hold
        .map(|text| duration("spec.holdTime", text))
        .transpose()?;
    let keepalive = keepalive
        .map(|text| duration(KEEPALIVE, text))
        .transpose()?;
    let hold = match (hold, keepalive) {
        (Some(hold), _) => hold,
        (None, Some(keepalive)) => keepalive.saturating_mul(3),
        (None, None) => DEFAULT_HOLD_TIME,
    };
    if !matches!(hold.as_secs(), 0 | 3..=65535) || (hold.as_secs() == 0 && !hold.is_zero()) {
        let message = format!(
            "{} s: use 0 (off) or 3 s to 65535 s (RFC 4271 §4.2)",
            hold.as_secs_f32()
        );
        return Err(FieldError::new("spec.holdTime", message));
    }
    if keepalive.is_some_and(|keepalive| keepalive > hold) {
        return Err(FieldError::new(
            KEEPALIVE,
            "is longer than holdTime: use a third of it",
        ));
    }
    if keepalive.is_some_and(|keepalive| keepalive.as_secs() == 0) && !hold.is_zero() {
        return Err(FieldError::new(
            KEEPALIVE,
            "is less than a second: use 1s or more",
        ));
    }
    let whole = |time: Duration| Duration::from_secs(time.as_secs());
    Ok((whole(hold), keepalive.map(whole)))
}

fn connect_duration(text: &str) -> Result<Duration, FieldError> {
    let time = duration("spec.connectTime", text)?;
    if (1..=65535).contains(&time.as_secs()) {
        Ok(time)
    } else {
        Err(FieldError::new(
            "spec.connectTime",
            format!("{text}: use 1s to 65535s"),
        ))
    }
}

/// Reads a Go duration (`1m30s`).
fn duration(path: &str, text: &str) -> Result<Duration, FieldError> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| {
            FieldError::new(
                path,
                format!("{text:?} is not a duration: write it as 90s or 1m30s"),
            )
        })
}

fn ip(path: &str, text: &str) -> Result<Option<IpAddr>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text
        .parse()
        .map_err(|_| FieldError::new(path, format!("{text:?} is not an IP address")))?;
    Ok(Some(parsed))
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
    password: &Password,
    reference: &SecretReference,
    secret: impl FnOnce(&str) -> Result<Password, String>,
) -> Result<Option<Password>, FieldError> {
    let (field, password) = match (password.reveal(), reference.name.as_str()) {
        ("", "") => return Ok(None),
        (_, "") => ("spec.password", password.clone()),
        ("", name) => {
            let field = "spec.passwordSecret";
            (
                field,
                secret(name).map_err(|message| FieldError::new(field, message))?,
            )
        }
        _ => {
            return Err(FieldError::new(
                "spec.password",
                "and passwordSecret are both set: keep one of them",
            ));
        }
    };
    match password.reveal().len() {
        1..=PASSWORD_MAX => Ok(Some(password)),
        length => {
            let message =
                format!("the password has {length} octets, TCP MD5 takes 1 to {PASSWORD_MAX}");
            Err(FieldError::new(field, message))
        }
    }
}
