//! Sources of Kubernetes objects, and sinks of Service status: the Kubernetes API, or a folder with
//! the same YAML. Code outside of this module doesn't know which of the two is in use.

mod api_writes;
pub(crate) mod bgp_sessions;
pub(crate) mod config_maps;
mod documents;
pub(crate) mod folder;
mod interface_list;
mod json_list;
pub(crate) mod kube;
pub(crate) mod manifests;
pub(crate) mod metallb_kinds;
mod open_files;
pub(crate) mod stamp;
pub(crate) mod status_objects;
mod status_writes;
mod unsupported_kinds;
mod walk;

pub use api_writes::api_writes;
pub(crate) use api_writes::{ApiWrite, ApiWriteReceiver, ApiWriteSender};
pub use bgp_sessions::SessionChannels;
pub use status_writes::status_writes;
pub(crate) use status_writes::{StatusReceiver, StatusSender};

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::api::metallb_pod::MetallbPod;
use crate::core::index::change::Change;

/// An event of a source, in order.
#[derive(Debug)]
pub enum Event {
    /// An object changed, or a list of objects is complete.
    Change(Change),
    /// All current errors of the source, such as unreadable files. The last valid objects of those
    /// places stay in use.
    Errors(Vec<String>),
    /// Whether this process allocates addresses. A source sends `true` only after a consistent list
    /// of Services and pools that was read after it acquired the Lease, since the allocator decides
    /// from that list.
    Leading(bool),
    /// The nodes whose layer 2 process is ready. None if the Service that lists them doesn't exist.
    /// A source without an API server doesn't send it.
    ReadyNodes(Option<BTreeSet<Arc<str>>>),
    /// The Pod of MetalLB's speaker on this node, as `namespace/name`, if one runs. A source
    /// without an API server doesn't send it.
    MetallbSpeaker(Option<String>),
    /// The Pod of MetalLB's controller that serves the same Services, while one runs: this process
    /// does not lead. A source without an API server doesn't send it.
    MetallbController(Option<Box<MetallbPod>>),
}

/// Both directions of a source.
#[derive(Debug)]
pub struct Source {
    /// Events; the channel closes when the source can't continue.
    pub events: tokio::sync::mpsc::Receiver<Event>,
    /// Accepts status writes. Each replaces an older pending one for the same Service.
    pub status: StatusSender,
    /// Accepts writes that nothing waits for.
    pub writes: ApiWriteSender,
    /// Set to true once an allocator needs EndpointSlices, which it doesn't read otherwise.
    pub needs_endpoints: tokio::sync::watch::Sender<bool>,
    /// BGPSessions: those of this node, and what those of others say.
    pub sessions: SessionChannels,
}
