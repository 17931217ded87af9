//! Who this process is: its namespace, its name in elections, and randomness for names.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::core::config::CONFIG_NAMESPACE;

/// The given namespaces, else the Pod's, else MetalLB's default.
pub(super) fn config_namespaces(own: Option<String>, given: &[String]) -> Vec<String> {
    if !given.is_empty() {
        return given.to_vec();
    }
    vec![own.unwrap_or_else(|| CONFIG_NAMESPACE.to_owned())]
}

/// The Pod's namespace, else the first configuration namespace.
pub(super) fn pod_namespace(own: Option<String>, given: &[String]) -> String {
    own.unwrap_or_else(|| config_namespaces(None, given).swap_remove(0))
}

/// The Pod's namespace, if the environment contains it.
pub(super) fn own_namespace() -> Option<String> {
    let own = std::env::var("POD_NAMESPACE").ok();
    own.filter(|namespace| !namespace.is_empty())
}

/// A readable identity for leader election, unique to this process.
pub(super) fn identity(node: &str) -> String {
    let name = std::env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| {
        if node.is_empty() {
            "ferrolb".to_owned()
        } else {
            node.to_owned()
        }
    });
    format!("{name}_{:08x}", random() >> 32)
}

/// Randomness from the standard library's hasher, sufficient for jitter and names.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemonset_is_in_the_pods_namespace_and_configuration_in_the_given_ones() {
        let own = || Some("ferrolb".to_owned());
        let given = ["config".to_owned(), "more".to_owned()];
        assert_eq!(pod_namespace(own(), &given), "ferrolb");
        assert_eq!(pod_namespace(own(), &[]), "ferrolb");
        assert_eq!(pod_namespace(None, &given), "config");
        assert_eq!(pod_namespace(None, &[]), CONFIG_NAMESPACE);
        assert_eq!(config_namespaces(own(), &given), given);
        assert_eq!(config_namespaces(own(), &[]), ["ferrolb"]);
        assert_eq!(config_namespaces(None, &[]), [CONFIG_NAMESPACE]);
    }
}
