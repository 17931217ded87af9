//! Reads the answer to a list item by item, so that no two copies of all objects are in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Visitor};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess,
};
use serde_json::{Map, Value};

/// The field with the history of an object's fields. It is as large as the rest of the object.
const MANAGED_FIELDS: &str = "managedFields";

/// What a list says about its items, which don't have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Their apiVersion.
    pub(super) api_version: String,
    /// Their kind.
    pub(super) kind: String,
}

/// Calls `each` with the items of a list.
///
/// # Errors
///
/// The text is no list, or an item can't be read.
pub(super) fn each_item<T: DeserializeOwned>(
    text: &str,
    each: impl FnMut(T),
) -> serde_json::Result<Head> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let list = List(Items(each, PhantomData));
    let head = deserializer.deserialize_map(list)?;
    deserializer.end()?;
    Ok(head)
}

struct List<F, T>(Items<F, T>);

impl<'de, T: DeserializeOwned, F: FnMut(T)> Visitor<'de> for List<F, T> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        let mut head = Head::default();
        let mut items = Some(self.0);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "apiVersion" => head.api_version = map.next_value()?,
                "kind" => head.kind = map.next_value()?,
                "items" => match items.take() {
                    Some(items) => map.next_value_seed(items)?,
                    None => return Err(serde::de::Error::duplicate_field("items")),
                },
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        if items.is_some() {
            return Err(serde::de::Error::missing_field("items"));
        }
        if let Some(of_items) = head.kind.strip_suffix("List") {
            head.kind = of_items.to_owned();
        }
        Ok(head)
    }
}

struct Items<F, T>(F, PhantomData<T>);

impl<'de, T: DeserializeOwned, F: FnMut(T)> DeserializeSeed<'de> for Items<F, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T)> Visitor<'de> for Items<F, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    /// Go writes an empty list as null.
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

/// An object without the history of its fields, which is never built in memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WithoutHistory(pub(super) Value);

impl<'de> Deserialize<'de> for WithoutHistory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object).map(Self)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match key.as_str() {
                MANAGED_FIELDS => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                "metadata" => map.next_value::<WithoutHistory>()?.0,
                _ => map.next_value()?,
            };
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> serde_json::Result<(Head, Vec<Value>)> {
        let mut items = Vec::new();
        let head = each_item(text, |item: WithoutHistory| items.push(item.0))?;
        Ok((head, items))
    }

    #[test]
    fn items_have_no_history_and_the_list_names_their_kind() {
        let text = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},
            "items":[{"metadata":{"name":"a","managedFields":[{"manager":"m"}]},"spec":{"x":1}},
                     {"metadata":{"name":"b"}}]}"#;
        let (head, items) = read(text).expect("a list");
        assert_eq!(
            (head.api_version.as_str(), head.kind.as_str()),
            ("v1", "Pod")
        );
        let expected = [
            json!({ "metadata": { "name": "a" }, "spec": { "x": 1 } }),
            json!({ "metadata": { "name": "b" } }),
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn an_empty_list_may_be_null_and_anything_else_is_an_error() {
        let (_, items) = read(r#"{"kind":"PodList","items":null}"#).expect("a list");
        assert!(items.is_empty());
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"items":7}"#,
            r#"{"items":[7]}"#,
            r#"{"items":[]"#,
            r#"{"items":[],"items":[]}"#,
            r#"{"items":[]} more"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
