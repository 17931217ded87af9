//! Deserializes objects of the API directly to [`RawObject`], so that `managedFields` is never
//! built in memory.

use std::borrow::Cow;

use kube::Resource;
use kube::api::{ApiResource, ObjectMeta};
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};

/// The images on a node: most of its status, and nothing depends on them.
const IMAGES: &str = "images";

/// An object in the form that kube-runtime's watcher needs.
#[derive(Clone, Debug)]
pub(super) struct Object {
    raw: RawObject,
    /// Only what kube-runtime reads: name and version.
    meta: ObjectMeta,
}

impl Object {
    /// The object's resource version; empty if missing.
    pub(super) fn resource_version(&self) -> &str {
        &self.raw.metadata.resource_version
    }

    /// Converts it to key and object. Items of a list have no kind and version, so they are filled
    /// in.
    pub(super) fn keyed(mut self, kind: Kind) -> (ObjectKey, RawObject) {
        if kind == Kind::Node
            && let Some(Value::Object(status)) = self.raw.body.get_mut("status")
        {
            status.remove(IMAGES);
        }
        self.raw.kind = kind.name().to_owned();
        self.raw.api_version = kind.api_version().to_owned();
        let namespace = self.raw.metadata.namespace.clone().unwrap_or_default();
        let name = ObjectName::new(namespace, self.raw.metadata.name.clone());
        (ObjectKey::new(kind, name), self.raw)
    }
}

impl From<RawObject> for Object {
    fn from(raw: RawObject) -> Self {
        let meta = ObjectMeta {
            name: Some(raw.metadata.name.clone()),
            namespace: raw.metadata.namespace.clone(),
            resource_version: Some(raw.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Self { raw, meta }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawObject::deserialize(deserializer).map(Self::from)
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// The API resource of a kind.
pub(super) fn resource(kind: Kind) -> ApiResource {
    let api_version = kind.api_version();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.name().to_owned(),
        plural: plural(kind).to_owned(),
    }
}

/// The path of all objects of a kind, or of those in a namespace.
pub(crate) fn path_of_kind(kind: Kind, namespace: Option<&str>) -> String {
    let version = kind.api_version();
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace = namespace.map_or_else(String::new, |name| format!("namespaces/{name}/"));
    format!("/{root}/{version}/{namespace}{}", plural(kind))
}

/// The plural name in URLs and RBAC rules.
pub(super) const fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::Node => "nodes",
        Kind::Namespace => "namespaces",
        Kind::ServiceCidr => "servicecidrs",
        Kind::Secret => "secrets",
        Kind::ConfigMap => "configmaps",
        Kind::IpAddressPool | Kind::FerrolbIpAddressPool => "ipaddresspools",
        Kind::AddressPool => "addresspools",
        Kind::BgpPeer | Kind::FerrolbBgpPeer => "bgppeers",
        Kind::BfdProfile | Kind::FerrolbBfdProfile => "bfdprofiles",
        Kind::BgpAdvertisement | Kind::FerrolbBgpAdvertisement => "bgpadvertisements",
        Kind::Community | Kind::FerrolbCommunity => "communities",
        Kind::L2Advertisement | Kind::FerrolbL2Advertisement => "l2advertisements",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_group_of_the_kind_and_the_namespace() {
        let pools = path_of_kind(Kind::IpAddressPool, Some("a"));
        assert_eq!(
            pools,
            "/apis/metallb.io/v1beta1/namespaces/a/ipaddresspools"
        );
        assert_eq!(path_of_kind(Kind::Service, None), "/api/v1/services");
    }

    #[test]
    fn managed_fields_are_dropped_and_the_kind_is_filled_in() {
        let object: Object = serde_json::from_str(
            r#"{"metadata":{"name":"web","namespace":"shop","resourceVersion":"7",
                "managedFields":[{"manager":"kubectl","fieldsV1":{"f:spec":{}}}]},
                "spec":{"type":"LoadBalancer"}}"#,
        )
        .unwrap();
        assert_eq!(object.meta().resource_version.as_deref(), Some("7"));
        let (key, raw) = object.keyed(Kind::Service);
        assert_eq!(key.to_string(), "Service shop/web");
        assert_eq!(
            (raw.kind.as_str(), raw.api_version.as_str()),
            ("Service", "v1")
        );
        assert_eq!(raw.body.keys().collect::<Vec<_>>(), ["spec"]);
    }

    #[test]
    fn nodes_have_no_images() {
        let text = r#"{"metadata":{"name":"a"},"status":{"images":[{}],"addresses":[]}}"#;
        let object: Object = serde_json::from_str(text).unwrap();
        let (_, raw) = object.keyed(Kind::Node);
        assert_eq!(raw.body["status"], serde_json::json!({ "addresses": [] }));
    }

    #[test]
    fn resources_are_where_the_api_server_serves_them() {
        let path = |kind| Object::url_path(&resource(kind), Some("ns"));
        assert_eq!(path(Kind::Service), "/api/v1/namespaces/ns/services");
        assert_eq!(
            path(Kind::EndpointSlice),
            "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices"
        );
        assert_eq!(
            path(Kind::BgpPeer),
            "/apis/metallb.io/v1beta2/namespaces/ns/bgppeers"
        );
        assert_eq!(
            path(Kind::Community),
            "/apis/metallb.io/v1beta1/namespaces/ns/communities"
        );
    }
}
