//! Hellos: what each node sends on each segment, authenticated with HMAC-SHA-256.
//!
//! ```text
//! magic "FLB2"  version  key id(4)  cluster(8)  node(1+n)  instance(8)  sequence(8)  sent(8)
//! state(1)  interval(2)  multiplier(1)  owned(4)  digest(8)  mac(6)
//! number of networks(1)  networks (version, address, prefix length)
//! sections: kind(1) length(2) body
//! authentication(16)
//! ```
//! Numbers are in network byte order. Lengths in octets are in parentheses.

mod key;
mod section;
mod split;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use self::key::Key;
pub use self::section::{Claim, Section};
use super::reader::Reader;
use crate::mac::Mac;
use crate::status::NodeState;

const MAGIC: [u8; 4] = *b"FLB2";
/// Receivers ignore other versions.
const VERSION: u8 = 1;
/// The octets of the truncated HMAC (RFC 2104 §5).
const TAG: usize = 16;
/// Maximum number of networks. Others are left out.
const MAX_NETWORKS: usize = 16;
/// Maximum length of the name of a node (a DNS subdomain, RFC 1123).
const MAX_NAME: usize = 253;

/// The state of a node, and what changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster.
    pub cluster: u64,
    /// The name of the node.
    pub node: Arc<str>,
    /// The process of the node ([`crate::config::Identity::instance`]).
    pub instance: u64,
    /// Increases with each hello of an instance.
    pub sequence: u64,
    /// The sender's wall clock, in milliseconds since 1970.
    pub sent: u64,
    /// The state of the node.
    pub state: NodeState,
    /// When the next hello follows at the latest. In milliseconds on the wire, at most 65 s.
    pub interval: Duration,
    /// After how many intervals without a hello the node is silent.
    pub multiplier: u8,
    /// The number of addresses that the node owns.
    pub owned: u32,
    /// The digest of the node's claims.
    pub digest: u64,
    /// The node's Ethernet address on this segment.
    pub mac: Mac,
    /// The kernel's addresses on this segment, with their prefix lengths. At most 16.
    pub networks: Vec<IpNet>,
    /// What changed.
    pub sections: Vec<Section>,
}

/// Why octets are not a hello that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Another protocol uses the same group and port.
    #[error("not a hello")]
    NotHello,
    /// Another version.
    #[error("hello of version {0}, this process reads version {VERSION}")]
    Version(u8),
    /// A hello of another cluster.
    #[error("hello of another cluster")]
    OtherCluster,
    /// A field is incomplete or has an unknown value.
    #[error("malformed hello")]
    Malformed,
    /// The sender uses a key that this node doesn't have.
    #[error("node {0} uses another key: compare the Secret on both nodes")]
    UnknownKey(Arc<str>),
    /// The authentication is wrong.
    #[error("hello in the name of node {0} with wrong authentication")]
    Unauthenticated(Arc<str>),
}

impl Hello {
    /// The authenticated octets.
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let mut octets = Vec::with_capacity(256);
        octets.extend_from_slice(&MAGIC);
        octets.push(VERSION);
        octets.extend_from_slice(&key.id().to_be_bytes());
        octets.extend_from_slice(&self.cluster.to_be_bytes());
        put_name(&mut octets, &self.node);
        octets.extend_from_slice(&self.instance.to_be_bytes());
        octets.extend_from_slice(&self.sequence.to_be_bytes());
        octets.extend_from_slice(&self.sent.to_be_bytes());
        octets.push(match self.state {
            NodeState::Settling => 0,
            NodeState::Ready => 1,
            NodeState::Restarting => 2,
            NodeState::Leaving => 3,
        });
        let interval = u16::try_from(self.interval.as_millis()).unwrap_or(u16::MAX);
        octets.extend_from_slice(&interval.to_be_bytes());
        octets.push(self.multiplier);
        octets.extend_from_slice(&self.owned.to_be_bytes());
        octets.extend_from_slice(&self.digest.to_be_bytes());
        octets.extend_from_slice(&self.mac.0);
        let networks = self.networks.iter().take(MAX_NETWORKS);
        octets.push(u8::try_from(networks.len()).unwrap_or_default());
        for network in networks {
            put_address(&mut octets, network.addr());
            octets.push(network.prefix_len());
        }
        for section in &self.sections {
            section.encode(&mut octets);
        }
        let tag = key.authenticate(&octets);
        octets.extend_from_slice(&tag);
        octets
    }

    /// Checks the authentication and decodes. Octets after a complete hello are malformed.
    ///
    /// # Errors
    /// See [`HelloError`]. The node's name in an error is not authenticated.
    pub fn decode(octets: &[u8], cluster: u64, keys: &[Key]) -> Result<Self, HelloError> {
        let mut reader = Reader(octets);
        if reader.array() != Some(MAGIC) {
            return Err(HelloError::NotHello);
        }
        match reader.u8() {
            Some(VERSION) => {}
            Some(other) => return Err(HelloError::Version(other)),
            None => return Err(HelloError::NotHello),
        }
        let key_id = reader.u32().ok_or(HelloError::Malformed)?;
        let sender = reader.u64().ok_or(HelloError::Malformed)?;
        if sender != cluster {
            return Err(HelloError::OtherCluster);
        }
        let node: Arc<str> = name(&mut reader).ok_or(HelloError::Malformed)?.into();
        let key = keys.iter().find(|key| key.id() == key_id);
        let key = key.ok_or_else(|| HelloError::UnknownKey(node.clone()))?;
        let split = octets.len().checked_sub(TAG).ok_or(HelloError::Malformed)?;
        let (signed, tag) = octets.split_at(split);
        if !key.verify(signed, tag) {
            return Err(HelloError::Unauthenticated(node));
        }
        let end = reader.0.len().checked_sub(TAG);
        let body = end.and_then(|end| reader.take(end));
        let body = body.ok_or(HelloError::Malformed)?;
        decode_body(Reader(body), cluster, node).ok_or(HelloError::Malformed)
    }
}

fn decode_body(mut reader: Reader<'_>, cluster: u64, node: Arc<str>) -> Option<Hello> {
    let (instance, sequence, sent) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let state = match reader.u8()? {
        0 => NodeState::Settling,
        1 => NodeState::Ready,
        2 => NodeState::Restarting,
        3 => NodeState::Leaving,
        _ => return None,
    };
    let interval = Duration::from_millis(reader.u16()?.into());
    let multiplier = reader.u8()?;
    let (owned, digest) = (reader.u32()?, reader.u64()?);
    let mac = reader.mac()?;
    let count = reader.u8()?;
    if usize::from(count) > MAX_NETWORKS {
        return None;
    }
    let networks = (0..count).map(|_| {
        let (address, length) = (reader.address()?, reader.u8()?);
        IpNet::new(address, length).ok()
    });
    let networks = networks.collect::<Option<_>>()?;
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        sections.extend(Section::decode(&mut reader)?);
    }
    Some(Hello {
        cluster,
        node,
        instance,
        sequence,
        sent,
        state,
        interval,
        multiplier,
        owned,
        digest,
        mac,
        networks,
        sections,
    })
}

fn put_name(octets: &mut Vec<u8>, name: &str) {
    // Kubernetes has no longer names; a longer one would be cut at the same octet on all nodes.
    let name = name.as_bytes();
    let name = name.get(..MAX_NAME).unwrap_or(name);
    octets.push(u8::try_from(name.len()).unwrap_or_default());
    octets.extend_from_slice(name);
}

fn name<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    let length = reader.u8()?;
    let octets = reader.take(length.into())?;
    let valid = !octets.is_empty() && octets.iter().all(u8::is_ascii_graphic);
    valid.then(|| std::str::from_utf8(octets).ok())?
}

fn put_address(octets: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            octets.push(4);
            octets.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            octets.push(6);
            octets.extend_from_slice(&address.octets());
        }
    }
}
