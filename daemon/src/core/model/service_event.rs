//! Events about Services.

use std::sync::Arc;

use crate::core::api::ObjectName;

/// A Kubernetes Event about a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceEvent {
    /// The Service.
    pub service: Arc<ObjectName>,
    /// Its UID.
    pub uid: Arc<str>,
    /// The component of ferrolb that it is from.
    pub component: &'static str,
    /// Whether its type is Warning; else it is Normal.
    pub warning: bool,
    /// The reason, in one word.
    pub reason: &'static str,
    /// The message.
    pub message: String,
    /// Whether another process may have written it before this one led. An Event with the same text
    /// that still exists then counts as this one.
    pub may_be_known: bool,
}
