//! Where objects come from, and where status goes back to: the Kubernetes API, or a folder of the same YAML.
//! Nothing behind this module knows which of the two it is.

mod documents;
pub(crate) mod folder;
mod json_list;
pub(crate) mod kube;
pub(crate) mod manifests;
mod status_writes;
mod syntax;
mod unfinished;
mod unread;
mod walk;

pub use status_writes::status_writes;
pub(crate) use status_writes::{StatusReceiver, StatusSender};

use crate::core::index::change::Change;

/// What happens at a source, in order.
#[derive(Debug)]
pub enum Event {
    /// Objects changed.
    Change(Change),
    /// Places at the source that can't be read, all there are; what they last said, if anything, stands.
    Errors(Vec<String>),
    /// Whether this process allocates. A source says `true` only after it sent a consistent list of services and
    /// pools, read after the Lease was won: the allocator decides from that.
    Leading(bool),
}

/// Both directions of a source.
#[derive(Debug)]
pub struct Source {
    /// What happens there. Ends when the source can't go on.
    pub events: tokio::sync::mpsc::Receiver<Event>,
    /// Where status is written; each write replaces an older one for the same service.
    pub status: StatusSender,
}
