//! Events about configuration objects and Pods.

use crate::core::api::ObjectName;

/// A Kubernetes Event about an object that is no Service and no Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectEvent {
    /// The `apiVersion` of the object.
    pub api_version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// The object.
    pub object: ObjectName,
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
