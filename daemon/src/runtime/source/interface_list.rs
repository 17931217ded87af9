//! MetalLB's ConfigMap of interfaces that layer 2 must not use, among manifests. The daemon reads
//! it as a file that is mounted, so it is no [`Kind`](crate::core::api::Kind).

use serde_json::Value;

use crate::core::api::RawObject;
use crate::core::config::excluded_interfaces::ExcludedInterfaces;

/// The name that the DaemonSet mounts.
const NAME: &str = "metallb-excludel2";

/// The key that is mounted as the file.
const KEY: &str = "excludel2.yaml";

/// Whether an object is the ConfigMap. Those of other namespaces can't be mounted.
pub(super) fn is_interface_list(raw: &RawObject, config_namespace: &str) -> bool {
    let metadata = &raw.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or(config_namespace);
    (&*raw.api_version, &*raw.kind, &*metadata.name) == ("v1", "ConfigMap", NAME)
        && namespace == config_namespace
}

/// Checks the ConfigMap.
///
/// # Errors
/// The field, what is wrong, and the remedy.
pub(super) fn check(raw: &RawObject) -> Result<(), String> {
    let data = raw.body.get("data");
    let Some(text) = data.and_then(|data| data.get(KEY)).and_then(Value::as_str) else {
        return Err(format!(
            "data: there is no key {KEY}, so MetalLB's default list applies: write the list under \
             that key, or delete the ConfigMap"
        ));
    };
    ExcludedInterfaces::parse(&format!("data.{KEY}"), text).map(|_| ())
}
