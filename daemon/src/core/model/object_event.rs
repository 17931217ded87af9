//! Events about configuration objects.

use crate::core::api::ObjectKey;

/// A Kubernetes Event about a configuration object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectEvent {
    /// The object.
    pub object: ObjectKey,
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
