//! Events about Pods.

use crate::core::api::ObjectName;

/// A Kubernetes Event about a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodEvent {
    /// The Pod.
    pub pod: ObjectName,
    /// Its UID.
    pub uid: String,
    /// The component of ferrolb that it is from.
    pub component: &'static str,
    /// Whether its type is Warning; else it is Normal.
    pub warning: bool,
    /// The reason, in one word.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}
