//! The Kubernetes and MetalLB objects that ferrolb reads, in the shape that they have in YAML and
//! JSON.
//!
//! Reading is permissive: an unknown field is never an error here. [`crate::core::model`]
//! (Kubernetes objects) and [`crate::core::config`] (MetalLB's and ferrolb's resources) decide what
//! the fields mean.

pub(crate) mod bgp_session;
pub(crate) mod condition;
pub(crate) mod core;
mod decode;
pub(crate) mod duration;
mod errors;
pub(crate) mod ferrolb;
pub(crate) mod metallb;
pub(crate) mod metallb_pod;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use self::core::null_as_default;
pub(crate) use self::errors::{Cause, Errors, FieldError, Partial};

use serde::Deserialize;
use serde_json::{Map, Value};

/// An object as a source delivers it: the metadata that ferrolb uses, and the rest unparsed. Its
/// `Debug` prints the field names of the body without values, and it has no `Serialize`: any field
/// may contain a password.
#[derive(Clone, PartialEq, Deserialize)]
pub struct RawObject {
    /// `metallb.io/v1beta1`, `v1`, ...
    #[serde(rename = "apiVersion", default)]
    pub api_version: String,
    /// `Service`, `IPAddressPool`, ...
    #[serde(default)]
    pub kind: String,
    /// Name, labels, annotations and so on.
    pub metadata: Meta,
    /// `spec`, `status` and other top-level fields (a slice's endpoints, a secret's data).
    #[serde(flatten)]
    pub body: Map<String, Value>,
}

impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawObject")
            .field("api_version", &self.api_version)
            .field("kind", &self.kind)
            .field("metadata", &self.metadata)
            .field("body", &self.body.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// The part of `metadata` that ferrolb reads. `managedFields`, which is large, is skipped. Its
/// `Debug` prints the annotation keys without values: `kubectl apply` stores the whole object in an
/// annotation, passwords included.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name within kind and namespace.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// Absent for cluster-scoped objects, and in manifests that omit it.
    pub namespace: Option<String>,
    /// Labels.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// Empty in manifests.
    #[serde(deserialize_with = "null_as_default")]
    pub uid: String,
    /// The precondition of writes. Empty in manifests.
    #[serde(deserialize_with = "null_as_default")]
    pub resource_version: String,
    /// RFC 3339 in UTC, so that text order is time order. Empty in manifests.
    #[serde(deserialize_with = "null_as_default")]
    pub creation_timestamp: String,
    /// When the deletion was requested. Set until all finalizers are done.
    #[serde(deserialize_with = "null_as_default")]
    pub deletion_timestamp: String,
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .field("labels", &self.labels)
            .field("annotations", &self.annotations.keys().collect::<Vec<_>>())
            .field("uid", &self.uid)
            .field("resource_version", &self.resource_version)
            .field("creation_timestamp", &self.creation_timestamp)
            .field("deletion_timestamp", &self.deletion_timestamp)
            .finish()
    }
}

/// The older API version of MetalLB's BGPPeer.
pub(crate) const BGP_PEER_V1BETA1: &str = "metallb.io/v1beta1";
/// The older API version of MetalLB's AddressPool.
const ADDRESS_POOL_V1ALPHA1: &str = "metallb.io/v1alpha1";
/// The default name of the ConfigMap that MetalLB before 0.13 read.
pub(crate) const CONFIG_MAP: &str = "config";

/// The kinds of objects that ferrolb reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Node.
    Node,
    /// `v1` Namespace: its labels, for namespaceSelectors of pools.
    Namespace,
    /// `networking.k8s.io/v1` ServiceCIDR: ranges of cluster addresses, which are never allocated.
    ServiceCidr,
    /// `v1` Secret in a configuration namespace, type `kubernetes.io/basic-auth`.
    Secret,
    /// `v1` ConfigMap in a configuration namespace, with MetalLB's configuration before 0.13. Only
    /// the one of a given name is read.
    ConfigMap,
    /// `metallb.io/v1beta1` IPAddressPool.
    IpAddressPool,
    /// `ferrolb.io/v1alpha1` IPAddressPool: MetalLB's fields and further ones.
    FerrolbIpAddressPool,
    /// `metallb.io/v1beta1` AddressPool, and the older v1alpha1 in manifests: a pool that says how
    /// it is announced, until MetalLB 0.13.
    AddressPool,
    /// `metallb.io/v1beta2` BGPPeer, and the older v1beta1 in manifests.
    BgpPeer,
    /// `ferrolb.io/v1alpha1` BGPPeer: MetalLB's fields and further ones.
    FerrolbBgpPeer,
    /// `metallb.io/v1beta1` BFDProfile.
    BfdProfile,
    /// `ferrolb.io/v1alpha1` BFDProfile.
    FerrolbBfdProfile,
    /// `metallb.io/v1beta1` BGPAdvertisement.
    BgpAdvertisement,
    /// `ferrolb.io/v1alpha1` BGPAdvertisement.
    FerrolbBgpAdvertisement,
    /// `metallb.io/v1beta1` Community.
    Community,
    /// `ferrolb.io/v1alpha1` Community.
    FerrolbCommunity,
    /// `metallb.io/v1beta1` L2Advertisement.
    L2Advertisement,
    /// `ferrolb.io/v1alpha1` L2Advertisement: MetalLB's fields and further ones.
    FerrolbL2Advertisement,
}

impl Kind {
    /// Every kind. A kind comes after those that it depends on.
    pub const ALL: [Self; 20] = [
        Self::Namespace,
        Self::Node,
        Self::ServiceCidr,
        Self::Secret,
        Self::ConfigMap,
        Self::Community,
        Self::FerrolbCommunity,
        Self::IpAddressPool,
        Self::FerrolbIpAddressPool,
        Self::AddressPool,
        Self::BfdProfile,
        Self::FerrolbBfdProfile,
        Self::BgpPeer,
        Self::FerrolbBgpPeer,
        Self::BgpAdvertisement,
        Self::FerrolbBgpAdvertisement,
        Self::L2Advertisement,
        Self::FerrolbL2Advertisement,
        Self::Service,
        Self::EndpointSlice,
    ];

    /// The value of `kind:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::IpAddressPool | Self::FerrolbIpAddressPool => "IPAddressPool",
            Self::AddressPool => "AddressPool",
            Self::BgpPeer | Self::FerrolbBgpPeer => "BGPPeer",
            Self::BfdProfile | Self::FerrolbBfdProfile => "BFDProfile",
            Self::BgpAdvertisement | Self::FerrolbBgpAdvertisement => "BGPAdvertisement",
            Self::Community | Self::FerrolbCommunity => "Community",
            Self::L2Advertisement | Self::FerrolbL2Advertisement => "L2Advertisement",
        }
    }

    /// The name for kubectl, with the group where the kind alone is ambiguous.
    pub const fn full_name(self) -> &'static str {
        match self {
            Self::FerrolbIpAddressPool => "IPAddressPool.ferrolb.io",
            Self::FerrolbBgpPeer => "BGPPeer.ferrolb.io",
            Self::FerrolbBfdProfile => "BFDProfile.ferrolb.io",
            Self::FerrolbBgpAdvertisement => "BGPAdvertisement.ferrolb.io",
            Self::FerrolbCommunity => "Community.ferrolb.io",
            Self::FerrolbL2Advertisement => "L2Advertisement.ferrolb.io",
            kind => kind.name(),
        }
    }

    /// The API version of ferrolb's own kinds.
    pub const OWN_API_VERSION: &str = "ferrolb.io/v1alpha1";

    /// The API version that ferrolb reads.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Node | Self::Namespace | Self::Secret | Self::ConfigMap => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::ServiceCidr => "networking.k8s.io/v1",
            Self::BgpPeer => "metallb.io/v1beta2",
            Self::FerrolbIpAddressPool
            | Self::FerrolbBgpPeer
            | Self::FerrolbBfdProfile
            | Self::FerrolbBgpAdvertisement
            | Self::FerrolbCommunity
            | Self::FerrolbL2Advertisement => Self::OWN_API_VERSION,
            Self::IpAddressPool
            | Self::AddressPool
            | Self::BgpAdvertisement
            | Self::L2Advertisement
            | Self::Community
            | Self::BfdProfile => "metallb.io/v1beta1",
        }
    }

    /// Whether manifests may have the kind in this API version. The API server converts the older
    /// ones of MetalLB's BGPPeer and AddressPool.
    pub fn is_readable_as(self, api_version: &str) -> bool {
        api_version == self.api_version()
            || (self == Self::BgpPeer && api_version == BGP_PEER_V1BETA1)
            || (self == Self::AddressPool && api_version == ADDRESS_POOL_V1ALPHA1)
    }

    /// Whether objects of this kind are configuration, which is read from the configuration
    /// namespaces only.
    pub const fn is_configuration(self) -> bool {
        self.is_custom() || matches!(self, Self::Secret | Self::ConfigMap)
    }

    /// Whether objects of this kind have no namespace.
    pub const fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::Node | Self::Namespace | Self::ServiceCidr)
    }

    /// The API group. Empty for the core group.
    pub fn group(self) -> &'static str {
        group(self.api_version())
    }

    /// Whether a CRD defines the kind. A CRD may be absent, and may be created and deleted at any
    /// time.
    pub const fn is_custom(self) -> bool {
        !matches!(
            self,
            Self::Service
                | Self::EndpointSlice
                | Self::Node
                | Self::Namespace
                | Self::ServiceCidr
                | Self::Secret
                | Self::ConfigMap
        )
    }

    /// Whether ferrolb works in a cluster without this kind: the CRD may be missing, since one of
    /// the two groups is enough, or the API server may be too old.
    pub const fn is_optional(self) -> bool {
        self.is_custom() || matches!(self, Self::ServiceCidr)
    }

    /// The kind for the same purpose in the other API group.
    pub const fn other_group(self) -> Option<Self> {
        Some(match self {
            Self::IpAddressPool => Self::FerrolbIpAddressPool,
            Self::FerrolbIpAddressPool => Self::IpAddressPool,
            Self::BgpPeer => Self::FerrolbBgpPeer,
            Self::FerrolbBgpPeer => Self::BgpPeer,
            Self::BfdProfile => Self::FerrolbBfdProfile,
            Self::FerrolbBfdProfile => Self::BfdProfile,
            Self::BgpAdvertisement => Self::FerrolbBgpAdvertisement,
            Self::FerrolbBgpAdvertisement => Self::BgpAdvertisement,
            Self::Community => Self::FerrolbCommunity,
            Self::FerrolbCommunity => Self::Community,
            Self::L2Advertisement => Self::FerrolbL2Advertisement,
            Self::FerrolbL2Advertisement => Self::L2Advertisement,
            Self::AddressPool
            | Self::Service
            | Self::EndpointSlice
            | Self::Node
            | Self::Namespace
            | Self::ServiceCidr
            | Self::Secret
            | Self::ConfigMap => return None,
        })
    }

    /// The kind in both API groups, or the kind alone if there is one only.
    pub fn groups(self) -> impl Iterator<Item = Self> {
        std::iter::once(self).chain(self.other_group())
    }

    /// Whether the kind is one of ferrolb's own.
    pub fn is_own(self) -> bool {
        self.api_version() == Self::OWN_API_VERSION
    }

    /// The kind that `apiVersion:` and `kind:` name, if ferrolb reads it. The version is ignored.
    pub fn find(api_version: &str, name: &str) -> Option<Self> {
        let mut kinds = Self::ALL.into_iter();
        kinds.find(|kind| kind.name() == name && kind.group() == group(api_version))
    }
}

/// The API group of an apiVersion. Empty for the core group.
pub(crate) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Namespace and name. Cluster-scoped objects have an empty namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Name within the namespace.
    pub name: String,
}

impl ObjectName {
    /// From namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Parses the `namespace/name` form that [`ObjectName`] prints. A text without a slash is a
/// cluster-scoped name.
impl FromStr for ObjectName {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('/') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Self::new("", text),
        })
    }
}

/// Identifies an object by kind, namespace and name. Prints as `BGPPeer metallb-system/tor`, or as
/// `BGPPeer.ferrolb.io metallb-system/tor` where the kind alone is ambiguous.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub name: ObjectName,
}

impl ObjectKey {
    /// From kind, namespace and name.
    pub const fn new(kind: Kind, name: ObjectName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.full_name(), self.name)
    }
}

/// Reads a field that every object has. Null means absent.
fn present<T>(name: &str, value: &Value) -> Result<T, FieldError>
where
    T: for<'de> Deserialize<'de> + Default,
{
    if value.is_null() {
        return Ok(T::default());
    }
    decode::read(name, value, &mut Vec::new()).into_result()
}

impl RawObject {
    /// Reads an object of a manifest.
    ///
    /// # Errors
    /// It is no object, or one of the fields that every object has is of a wrong type. The text
    /// says what was found and what is expected.
    pub fn from_json(value: Value) -> Result<Self, String> {
        let Value::Object(mut body) = value else {
            let message = "is not an object: each document begins with fields such as apiVersion: \
                v1 and kind: Service";
            return Err(message.to_owned());
        };
        let mut take = |name: &str| body.remove(name).unwrap_or_default();
        let (api_version, kind, metadata) = (take("apiVersion"), take("kind"), take("metadata"));
        let mut errors = Errors::default();
        let api_version = errors.record(present("apiVersion", &api_version));
        let kind = errors.record(present("kind", &kind));
        let metadata = errors.record(present("metadata", &metadata));
        let shown = kind.clone().unwrap_or_default();
        let object = (|| {
            Some(Self {
                api_version: api_version?,
                kind: kind?,
                metadata: metadata?,
                body,
            })
        })();
        errors
            .into_result(object)
            .map_err(|error| match shown.as_str() {
                "" => error.to_string(),
                kind => format!("{kind}: {error}"),
            })
    }

    /// The object's key, if ferrolb reads its kind. `default_namespace` applies to namespaced
    /// objects without a namespace.
    pub fn key(&self, default_namespace: &str) -> Option<ObjectKey> {
        let kind = Kind::find(&self.api_version, &self.kind)?;
        let namespace = if kind.is_cluster_scoped() {
            String::new()
        } else {
            self.metadata
                .namespace
                .clone()
                .unwrap_or_else(|| default_namespace.to_owned())
        };
        Some(ObjectKey::new(
            kind,
            ObjectName::new(namespace, self.metadata.name.clone()),
        ))
    }

    /// Reads one top-level field (`spec`, `status`, `endpoints`). An absent field reads as the
    /// type's default.
    ///
    /// # Errors
    /// The path within the object, and what is wrong.
    pub fn field<T>(&self, name: &str) -> Result<T, FieldError>
    where
        T: for<'de> Deserialize<'de> + Default,
    {
        self.partial(name, &mut Vec::new()).into_result()
    }

    /// Reads as much of one top-level field as possible. Adds the paths of fields that the type
    /// doesn't have to `unknown`.
    pub fn partial<T>(&self, name: &str, unknown: &mut Vec<String>) -> Partial<T>
    where
        T: for<'de> Deserialize<'de> + Default,
    {
        let Some(value) = self.body.get(name).filter(|value| !value.is_null()) else {
            return Partial::new(Some(T::default()), None);
        };
        decode::read(name, value, unknown)
    }
}

/// A password. Neither `Debug` nor an error about its type prints it. It has no `Serialize`: where
/// it is stored on purpose, the field says so.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Password(String);

impl Password {
    /// A password from a BGPPeer or a Secret.
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: only for the session's key, never for output.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Null => Ok(Self::default()),
            other => Err(serde::de::Error::custom(decode::not_text(&other))),
        }
    }
}
