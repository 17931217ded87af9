//! Streaming JSON reader that yields the items of a list one by one.

use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::core::syntax::{self, OBJECT_MAX};

/// A reader that counts lines and fails when an object is larger than [`OBJECT_MAX`].
#[derive(Debug)]
pub(super) struct Metered<R> {
    inner: R,
    /// Octets left for the current object. Shared with the visitor, which resets it per item.
    left: std::rc::Rc<std::cell::Cell<usize>>,
    lines: usize,
    is_exceeded: bool,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            left: std::rc::Rc::new(std::cell::Cell::new(OBJECT_MAX)),
            lines: 0,
            is_exceeded: false,
        }
    }

    /// Number of line ends read.
    pub(super) const fn lines(&self) -> usize {
        self.lines
    }

    /// Whether a read failed because the object is too large.
    pub(super) const fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get().checked_sub(1) else {
            self.is_exceeded = true;
            return Err(io::Error::other(syntax::too_large()));
        };
        // One octet at a time, as serde_json requests: nothing after the object may be consumed.
        let Some(buffer) = buffer.get_mut(..1) else {
            return Ok(0);
        };
        let count = self.inner.read(buffer)?;
        self.left.set(left);
        self.lines += usize::from(count == 1 && buffer == b"\n");
        Ok(count)
    }
}

/// Reads one object. Calls `each` with its `items` one by one, or with the object itself if it has
/// no such field.
///
/// # Errors
///
/// Invalid or truncated JSON, or an object that is too large.
pub(super) fn read_object<R: Read>(
    input: &mut Metered<R>,
    each: &mut dyn FnMut(Value),
) -> serde_json::Result<()> {
    let left = input.left.clone();
    let mut deserializer = serde_json::Deserializer::from_reader(input);
    let visitor = Object {
        each,
        next: &|| left.set(OBJECT_MAX),
    };
    deserializer.deserialize_map(visitor)
}

struct Object<'a> {
    each: &'a mut dyn FnMut(Value),
    next: &'a dyn Fn(),
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { each, next } = self;
        let mut fields = Map::new();
        let mut is_list = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                is_list = true;
                map.next_value_seed(Items { each, next })?;
            } else if is_list {
                map.next_value::<IgnoredAny>()?;
            } else {
                fields.insert(key, map.next_value()?);
            }
        }
        if !is_list {
            each(Value::Object(fields));
        }
        Ok(())
    }
}

struct Items<'a> {
    each: &'a mut dyn FnMut(Value),
    next: &'a dyn Fn(),
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.each)(item);
            (self.next)();
        }
        Ok(())
    }
}
