//! Where a cluster or a folder has its configuration.

use super::CONFIG_NAMESPACE;
use crate::core::api::CONFIG_MAP;

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigPlaces {
    /// The namespaces.
    pub namespaces: Vec<String>,
    /// The name of MetalLB's ConfigMap in each of them.
    pub config_map: String,
}

impl ConfigPlaces {
    /// Namespaces in which the ConfigMap has its usual name.
    pub(crate) fn of(namespaces: &[String]) -> Self {
        Self {
            namespaces: namespaces.to_vec(),
            config_map: CONFIG_MAP.to_owned(),
        }
    }

    /// The namespace of configuration in manifests that names none.
    pub(crate) fn default_namespace(&self) -> &str {
        let first = self.namespaces.first();
        first.map_or(CONFIG_NAMESPACE, String::as_str)
    }

    /// Whether configuration of this namespace is read.
    pub(crate) fn contain(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|known| known == namespace)
    }
}
