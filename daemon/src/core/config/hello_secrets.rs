//! The Secrets with the keys that authenticate hellos of layer 2.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Config, ConfigObjects, Problem, Severity};
use crate::core::api::core::ByteString;
use crate::core::api::{Kind, ObjectName, Password, RawObject};

/// MetalLB's Secret, which its users create or its controller does.
pub(crate) const MEMBERLIST: &str = "memberlist";
/// The Secret that ferrolb's allocator creates where [`MEMBERLIST`] doesn't exist.
pub(crate) const OWN: &str = "ferrolb-layer2";
/// The name of the key in both Secrets.
pub(crate) const KEY: &str = "secretkey";
/// The name of the key before a rotation, in both Secrets. Processes that start during a rotation
/// need it: the others send with that key until all have received the new one.
const PREVIOUS: &str = "previous";

/// Shorter keys can be guessed from a recorded hello, in octets.
const RECOMMENDED_LENGTH: usize = 16;

fn remedy(secret: &ObjectName) -> String {
    let ObjectName { namespace, name } = secret;
    format!(
        "delete the Secret and create it again: kubectl create secret generic -n {namespace} \
         {name} --from-literal={KEY}=\"$(openssl rand -base64 32)\""
    )
}

/// A key that authenticates hellos. Its `Debug` doesn't print it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HelloKey(Arc<[u8]>);

impl HelloKey {
    /// The octets: only for the engine.
    pub(crate) fn octets(&self) -> Arc<[u8]> {
        self.0.clone()
    }
}

#[cfg(test)]
impl From<&str> for HelloKey {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl fmt::Debug for HelloKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The valid keys in the Secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HelloSecrets {
    /// Whether one of the Secrets exists, even if it is invalid.
    pub exists: bool,
    /// The key of [`MEMBERLIST`].
    pub memberlist: Option<HelloKey>,
    /// The key of [`OWN`].
    pub own: Option<HelloKey>,
    /// The keys before them.
    pub previous: Vec<HelloKey>,
}

impl HelloSecrets {
    /// The key that all nodes must use.
    pub(crate) fn preferred(&self) -> Option<&HelloKey> {
        self.memberlist.as_ref().or(self.own.as_ref())
    }

    /// All keys.
    pub(crate) fn all(&self) -> impl Iterator<Item = &HelloKey> {
        let memberlist = self.memberlist.iter();
        memberlist.chain(&self.own).chain(&self.previous)
    }
}

impl ConfigObjects {
    /// Reads the keys. Of Secrets in several namespaces, the first by name is used.
    pub(super) fn compile_hello_secrets(&self, config: &mut Config) {
        for name in [MEMBERLIST, OWN] {
            let mut secrets = self
                .raw
                .iter()
                .filter(|(key, _)| key.kind == Kind::Secret && key.name.name == name);
            let Some((object, raw)) = secrets.next() else {
                continue;
            };
            let mut report = |severity, message| {
                config.problems.push(Problem {
                    object: object.clone(),
                    severity,
                    message,
                });
            };
            let secret = key_of(raw, KEY).and_then(|key| {
                key.ok_or_else(|| format!("has no key {KEY}, so no hello can be authenticated"))
            });
            let key = match secret {
                Ok(key) => {
                    if key.0.len() < RECOMMENDED_LENGTH {
                        let length = key.0.len();
                        report(
                            Severity::Notice,
                            format!(
                                "{KEY} has {length} octets and can be guessed, use at least \
                                 {RECOMMENDED_LENGTH}: {}",
                                remedy(&object.name)
                            ),
                        );
                    }
                    Some(key)
                }
                Err(error) => {
                    report(
                        Severity::Error,
                        format!("{error}: {}", remedy(&object.name)),
                    );
                    None
                }
            };
            let secrets = &mut config.hello_secrets;
            secrets.exists = true;
            if name == MEMBERLIST {
                secrets.memberlist = key;
            } else {
                secrets.own = key;
            }
            match key_of(raw, PREVIOUS) {
                Ok(previous) => secrets.previous.extend(previous),
                Err(error) => config.error(object.clone(), format!("{error}: remove {PREVIOUS}")),
            }
        }
    }
}

/// A value of `data` (base64) or, in manifests, of `stringData`. Errors never repeat it.
fn key_of(raw: &RawObject, name: &str) -> Result<Option<HelloKey>, String> {
    let text: BTreeMap<String, Password> = raw
        .field("stringData")
        .map_err(|_| "stringData has a value that is not text".to_owned())?;
    let octets = match text.get(name) {
        Some(text) => text.reveal().as_bytes().to_vec(),
        None => {
            let data: BTreeMap<String, ByteString> = raw
                .field("data")
                .map_err(|_| "data has a value that is not base64".to_owned())?;
            match data.get(name) {
                Some(octets) => octets.0.clone(),
                None => return Ok(None),
            }
        }
    };
    if octets.is_empty() {
        return Err(format!("{name} is empty"));
    }
    Ok(Some(HelloKey(octets.into())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::index::Index;
    use crate::core::index::change::Change;

    fn index(secrets: &[(&str, Value)]) -> Index {
        let mut index = Index::default();
        for (name, fields) in secrets {
            let mut secret = json!({"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": name, "namespace": "metallb-system"}});
            for (field, value) in fields.as_object().expect("fields") {
                secret[field] = value.clone();
            }
            let raw = RawObject::from_json(secret).expect("an object");
            let key = raw.key("default").expect("a Secret");
            index.apply(Change::Apply(key, raw));
        }
        index
    }

    fn problems(index: &Index) -> String {
        let problems: Vec<String> = index.problems().iter().map(Problem::to_string).collect();
        problems.join("\n")
    }

    #[test]
    fn the_key_of_memberlist_is_preferred_and_all_keys_are_known() {
        let index = index(&[
            (
                "memberlist",
                json!({"data": {"secretkey": "MDEyMzQ1Njc4OWFiY2RlZg==", "previous": "b2xk"}}),
            ),
            (
                "ferrolb-layer2",
                json!({"stringData": {"secretkey": "fedcba9876543210", "previous": "before"}}),
            ),
        ]);
        let secrets = &index.config().hello_secrets;
        assert_eq!(
            secrets.preferred(),
            Some(&HelloKey::from("0123456789abcdef"))
        );
        let all: Vec<&[u8]> = secrets.all().map(|key| &*key.0).collect();
        assert_eq!(
            all,
            [
                b"0123456789abcdef".as_slice(),
                b"fedcba9876543210",
                b"old",
                b"before"
            ]
        );
        assert_eq!(problems(&index), "");
        assert!(!format!("{secrets:?}").contains("before"), "hidden");
    }

    #[test]
    fn an_invalid_key_is_reported_by_name_with_its_remedy_and_without_its_value() {
        for (fields, expected) in [
            (json!({"data": {"secretkey": ""}}), "secretkey is empty"),
            (json!({"data": {"secretkey": "s3cret!"}}), "not base64"),
            (
                json!({"stringData": {"secretkey": {"s3cret": 1}}}),
                "not text",
            ),
            (
                json!({"data": {"other": "s3cret00"}}),
                "has no key secretkey",
            ),
            (json!({}), "has no key secretkey"),
            (
                json!({"stringData": {"secretkey": "s3cret"}}),
                "has 6 octets",
            ),
        ] {
            let index = index(&[("memberlist", fields)]);
            let text = problems(&index);
            assert!(
                text.contains("Secret metallb-system/memberlist: "),
                "{text}"
            );
            assert!(
                text.contains(expected) && text.contains("-n metallb-system memberlist"),
                "{text}"
            );
            assert!(!text.contains("s3cret"), "{text}");
            assert!(index.config().hello_secrets.exists);
        }
    }

    #[test]
    fn without_a_secret_there_is_no_key_and_no_problem() {
        let index = index(&[("router", json!({"stringData": {"password": "x"}}))]);
        assert_eq!(index.config().hello_secrets, HelloSecrets::default());
        assert_eq!(problems(&index), "");
    }
}
