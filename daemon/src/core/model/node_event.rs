//! Events about Nodes.

/// A Kubernetes Event about a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeEvent {
    /// The Node.
    pub node: String,
    /// The component of ferrolb that it is from.
    pub component: &'static str,
    /// Whether its type is Warning; else it is Normal.
    pub warning: bool,
    /// The reason, in one word.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}
