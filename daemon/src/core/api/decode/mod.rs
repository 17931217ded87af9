//! Deserializes a part of an object into its type. Like the API server, it reads `null` as absent.
//! An error names the field, the value and what is expected, with an example.

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor, value::StrDeserializer,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Value;

use super::errors::MAX_ERRORS;
use super::{FieldError, Partial};

/// Maximum number of characters of a value that an error repeats.
const VALUE_CHARS_MAX: usize = 60;

/// The fields of a Secret that contain its values.
const SECRET_ROOTS: [&str; 2] = ["data", "stringData"];

fn is_password_name(text: &str) -> bool {
    text.to_lowercase().contains("password")
}

/// Reads `value`, whose path is `path`. Adds the paths of fields that the type doesn't have to
/// `unknown`.
///
/// The error in the result names every field of a wrong type, in the order in which the fields are
/// read.
pub(super) fn read<T>(path: &str, value: &Value, unknown: &mut Vec<String>) -> Partial<T>
where
    T: for<'de> Deserialize<'de>,
{
    let first = match attempt(path, value, unknown) {
        Ok(read) => return Partial::new(Some(read), None),
        Err(error) => error,
    };
    // Treat a reported field as absent, so that the next attempt finds the next error.
    let mut rest = value.clone();
    let mut last = first.keys.clone();
    let mut absent = first.keys;
    let mut error = first.error;
    let mut read = None;
    while error.more.len() + 1 < MAX_ERRORS && remove(&mut rest, &absent) {
        match attempt::<T>(path, &rest, unknown) {
            Ok(value) => {
                read = Some(value);
                break;
            }
            Err(next) if next.keys == last => {
                // An item of a list can't be absent, but the list can.
                absent.pop();
                if absent.is_empty() {
                    break;
                }
            }
            Err(next) => {
                last.clone_from(&next.keys);
                absent = next.keys;
                error.more.push(next.error);
            }
        }
    }
    Partial::new(read, Some(error))
}

/// Reads up to the first error.
fn attempt<T>(path: &str, value: &Value, unknown: &mut Vec<String>) -> Result<T, Located>
where
    T: for<'de> Deserialize<'de>,
{
    unknown.clear();
    let node = Node {
        value,
        place: &Place::Root(path),
    };
    serde_ignored::deserialize(node, |ignored| unknown.push(format!("{path}.{ignored}")))
        .map_err(|error| error.locate(path))
}

/// Sets the value at a place to null.
fn remove(value: &mut Value, keys: &[Key]) -> bool {
    let mut place = value;
    for key in keys {
        let inner = match key {
            Key::Field(name) => place.get_mut(name.as_str()),
            Key::Item(number) => place.get_mut(*number),
        };
        let Some(inner) = inner else { return false };
        place = inner;
    }
    !std::mem::take(place).is_null()
}

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Field(String),
    Item(usize),
}

/// The position of a value below the root.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// The path of the root.
    Root(&'a str),
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn keys(&self) -> Vec<Key> {
        let (mut keys, last) = match self {
            Self::Root(_) => return Vec::new(),
            Self::Field(outer, name) => (outer.keys(), Key::Field((*name).to_owned())),
            Self::Item(outer, number) => (outer.keys(), Key::Item(*number)),
        };
        keys.push(last);
        keys
    }

    /// The name of the field, for examples.
    fn name(&self) -> &str {
        match self {
            Self::Root(_) => "",
            Self::Field(_, name) => name,
            Self::Item(outer, _) => outer.name(),
        }
    }

    /// Whether the value may be a password, or a misplaced one where the name of a Secret belongs.
    fn is_secret(&self) -> bool {
        match self {
            Self::Root(path) => SECRET_ROOTS.contains(path) || is_password_name(path),
            Self::Field(outer, name) => is_password_name(name) || outer.is_secret(),
            Self::Item(outer, _) => outer.is_secret(),
        }
    }
}

/// An error with its position.
struct Located {
    keys: Vec<Key>,
    error: FieldError,
}

/// An error whose position is filled in by the deserializer that knows it.
#[derive(Debug)]
struct DecodeError {
    keys: Option<Vec<Key>>,
    message: String,
}

impl DecodeError {
    fn at(mut self, place: &Place<'_>) -> Self {
        self.keys.get_or_insert_with(|| place.keys());
        self
    }

    fn locate(self, root: &str) -> Located {
        let keys = self.keys.unwrap_or_default();
        let mut path = root.to_owned();
        for key in &keys {
            match key {
                Key::Field(name) if name.contains(['.', '/']) => path += &format!("[{name}]"),
                Key::Field(name) => path += &format!(".{name}"),
                Key::Item(number) => path += &format!("[{number}]"),
            }
        }
        Located {
            keys,
            error: FieldError::new(path, self.message),
        }
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self {
            keys: None,
            message: message.to_string(),
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format!("is not {expected}"))
    }

    /// Serde's own text would repeat the value, which may be a password.
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

/// A value and its position.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    place: &'a Place<'a>,
}

impl Node<'_> {
    fn error(&self, expected: &str) -> DecodeError {
        let found = if self.is_hidden() {
            type_name(self.value).to_owned()
        } else {
            describe(self.value)
        };
        DecodeError::custom(format!("is {found}, expected {expected}")).at(self.place)
    }

    /// Whether no error may repeat the value: it can be a password, or have one inside.
    fn is_hidden(&self) -> bool {
        self.place.is_secret() || is_password_name(&self.value.to_string())
    }

    fn text_error(&self) -> DecodeError {
        if self.is_hidden() {
            return DecodeError::custom(not_text(self.value)).at(self.place);
        }
        let name = self.place.name();
        let lower = name.to_lowercase();
        match self.value {
            Value::Number(number) if lower.ends_with("time") => {
                self.error(&format!("a duration: write \"{number}s\""))
            }
            Value::Number(_) | Value::Bool(_) => {
                self.error(&format!("a text: write it in quotes, \"{}\"", self.value))
            }
            _ => self.error("a text"),
        }
    }

    fn number_error(&self, min: i128, max: i128) -> DecodeError {
        let range = format!("a whole number from {min} to {max}");
        if self.is_hidden() {
            return self.error(&range);
        }
        let is_asn = self.place.name().ends_with("ASN");
        match self.value {
            Value::String(text) if is_asn && asdot(text).is_some() => {
                let number = asdot(text).unwrap_or_default();
                self.error(&format!("{range}: write {number}, which is AS {text}"))
            }
            Value::Number(number) if is_asn && number.is_f64() => self.error(&format!(
                "{range}: write AS A.B as the number A × 65536 + B, AS 1.10 as 65546"
            )),
            Value::String(text) if text.trim().parse::<i64>().is_ok() => {
                self.error(&format!("{range}: write {} without quotes", text.trim()))
            }
            _ if is_asn => self.error(&format!("{range}: write 64512")),
            _ => self.error(&range),
        }
    }
}

/// An AS number in the notation of RFC 5396 §2, asdot or asdot+.
fn asdot(text: &str) -> Option<u32> {
    let (high, low) = text.trim().split_once('.')?;
    let (high, low): (u16, u16) = (high.parse().ok()?, low.parse().ok()?);
    Some(u32::from(high) << 16 | u32::from(low))
}

/// The type of a value, in words.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::String(_) => "a text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
    }
}

/// The error for a password that is no text. It doesn't repeat the value.
pub(super) fn not_text(value: &Value) -> String {
    let remedy = match value {
        Value::Number(_) | Value::Bool(_) => ": write it in quotes",
        _ => "",
    };
    format!("is {}, expected a text{remedy}", type_name(value))
}

/// A value for an error: shortened and escaped, because it may have any size and contain any
/// character.
fn describe(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "empty".to_owned(),
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::String(_) => "the text",
        Value::Number(_) => "the number",
        Value::Bool(_) => "the boolean",
    };
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    let short: String = text.chars().take(VALUE_CHARS_MAX).collect();
    let more = if text.chars().nth(VALUE_CHARS_MAX).is_some() {
        "…"
    } else {
        ""
    };
    format!("{kind} {short}{more}")
}

/// The value as an integer, if it is one.
fn integer(value: &Value) -> Option<i128> {
    let number = value.as_i64().map(i128::from);
    number.or_else(|| value.as_u64().map(i128::from))
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match integer(self.value).and_then(|number| <$type>::try_from(number).ok()) {
                Some(number) => visitor.$visit(number),
                None => Err(self.number_error(<$type>::MIN.into(), <$type>::MAX.into())),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let result = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, number) => visitor.visit_f64(number.unwrap_or_default()),
            },
            Value::Array(_) => return self.deserialize_seq(visitor),
            Value::Object(_) => return self.deserialize_map(visitor),
        };
        result.map_err(|error: DecodeError| error.at(self.place))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.error("true or false, without quotes")),
        }
    }

    numbers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    );

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::String(text) => visitor.visit_str(text),
            _ => Err(self.text_error()),
        }
        .map_err(|error: DecodeError| error.at(self.place))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                place: self.place,
            }),
            Value::String(text) if !self.is_hidden() => {
                Err(self.error(&format!("a list: write [{text:?}]")))
            }
            _ => Err(self.error("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Object(fields) => visitor.visit_map(Fields {
                fields: fields.iter(),
                value: None,
                place: self.place,
            }),
            _ => Err(self.error("an object with names and values: write {name: value}")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Object(_) => self.deserialize_map(visitor),
            _ if self.place.is_secret() && fields.contains(&"name") => {
                Err(self.error("an object with the name of a Secret: write {name: SECRET}"))
            }
            Value::String(text) if fields.contains(&"name") && !self.is_hidden() => {
                Err(self.error(&format!("an object: write {{name: {text:?}}}")))
            }
            _ => Err(self.error(&format!("an object with the fields {}", fields.join(", ")))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.value.as_str() {
            Some(text) if variants.contains(&text) => {
                let variant: StrDeserializer<'_, DecodeError> = text.into_deserializer();
                visitor.visit_enum(variant)
            }
            _ => Err(self.error(&format!("one of {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The items of a list.
struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    place: &'a Place<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let Some((number, value)) = self.items.next() else {
            return Ok(None);
        };
        let place = &Place::Item(self.place, number);
        let item = seed.deserialize(Node { value, place });
        item.map(Some).map_err(|error| error.at(place))
    }
}

/// The fields of an object that are not null.
struct Fields<'a> {
    fields: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
    place: &'a Place<'a>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        let Some((name, value)) = self.fields.find(|(_, value)| !value.is_null()) else {
            return Ok(None);
        };
        self.value = Some((name, value));
        let name: StrDeserializer<'_, DecodeError> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        let (name, value) = self
            .value
            .take()
            .ok_or_else(|| DecodeError::custom("has a value without a name"))?;
        let place = &Place::Field(self.place, name);
        seed.deserialize(Node { value, place })
            .map_err(|error| error.at(place))
    }
}

#[cfg(test)]
mod tests;
