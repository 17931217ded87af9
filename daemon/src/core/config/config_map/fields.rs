//! The fields of the ConfigMap, and their values. Fields of other names are mistakes, as in
//! MetalLB.

use super::mistake::Mistake;
use super::tree::{Field, Node, Value};
use crate::core::nearest::nearest;

/// The sections.
pub(super) const SECTIONS: &[&str] = &[PEERS, ALIASES, POOLS, BFD_PROFILES];

pub(super) const PEERS: &str = "peers";
pub(super) const ALIASES: &str = "bgp-communities";
pub(super) const POOLS: &str = "address-pools";
pub(super) const BFD_PROFILES: &str = "bfd-profiles";

/// The fields of an entry of `peers`.
pub(super) const PEER: &[&str] = &[
    "my-asn",
    "peer-asn",
    "peer-address",
    "source-address",
    "peer-port",
    "hold-time",
    "keepalive-time",
    "router-id",
    "node-selectors",
    "password",
    "bfd-profile",
    "ebgp-multihop",
];

/// The fields of an entry of `address-pools`. `cidr` is how MetalLB before 0.6 called `addresses`.
pub(super) const POOL: &[&str] = &[
    "protocol",
    "name",
    "addresses",
    "cidr",
    "avoid-buggy-ips",
    "auto-assign",
    "bgp-advertisements",
];

/// The fields of an entry of `bgp-advertisements`.
pub(super) const ADVERTISEMENT: &[&str] = &[
    "aggregation-length",
    "aggregation-length-v6",
    "localpref",
    "communities",
];

/// The fields of an entry of `bfd-profiles`.
pub(super) const BFD_PROFILE: &[&str] = &[
    "name",
    "receive-interval",
    "transmit-interval",
    "detect-multiplier",
    "echo-interval",
    "echo-mode",
    "passive-mode",
    "minimum-ttl",
];

/// The fields of an entry of `node-selectors`.
pub(super) const SELECTOR: &[&str] = &["match-labels", "match-expressions"];

/// The fields of an entry of `match-expressions`.
pub(super) const EXPRESSION: &[&str] = &["key", "operator", "values"];

/// The fields of the entries of a section.
pub(super) fn of_section(section: &str) -> &'static [&'static str] {
    match section {
        PEERS => PEER,
        POOLS => POOL,
        BFD_PROFILES => BFD_PROFILE,
        _ => &[],
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// The path, such as `peers[0].hold-time`.
    pub path: String,
    /// The line of the field or of the entry of a list.
    pub line: usize,
    node: &'a Node,
}

impl<'a> Place<'a> {
    /// The whole document.
    pub(super) const fn root(node: &'a Node) -> Self {
        Self {
            path: String::new(),
            line: node.line,
            node,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }
}

/// Reads values and collects the mistakes in them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub mistakes: Vec<Mistake>,
}

impl Reader {
    /// Adds a mistake.
    pub(super) fn reject(&mut self, place: &Place<'_>, message: impl Into<String>) {
        let mistake = Mistake::new(place.line, &place.path, message);
        self.mistakes.push(mistake);
    }

    /// All fields of an object, whatever their names.
    pub(super) fn all<'a>(&mut self, object: &Place<'a>) -> Vec<(&'a str, Place<'a>)> {
        let fields: &[Field] = match &object.node.value {
            Value::Null => &[],
            Value::Map(fields) => fields,
            other => {
                let found = describe(other);
                let message = format!("{found} stands here, fields are expected: name: value");
                self.reject(object, message);
                &[]
            }
        };
        let prefix = match object.path.as_str() {
            "" => String::new(),
            path => format!("{path}."),
        };
        let fields = fields.iter().map(|Field { name, line, value }| {
            let place = Place {
                path: format!("{prefix}{name}"),
                line: *line,
                node: value,
            };
            (name.as_str(), place)
        });
        fields.collect()
    }

    /// The fields of an object with values. Other fields than the `known` ones are mistakes.
    pub(super) fn fields<'a>(&mut self, object: &Place<'a>, known: &[&str]) -> Fields<'a> {
        let mut fields = self.all(object);
        for (name, place) in &fields {
            if !known.contains(name) {
                self.reject(place, unknown(name, known));
            }
        }
        fields.retain(|(_, place)| !place.is_null());
        Fields(fields)
    }

    /// The entries of a list. An absent one has none.
    pub(super) fn list<'a>(&mut self, list: Option<&Place<'a>>) -> Vec<Place<'a>> {
        let Some(list) = list else { return Vec::new() };
        let Value::List(items) = &list.node.value else {
            let found = describe(&list.node.value);
            self.reject(
                list,
                format!(
                    "{found} stands here, a list is expected: begin each entry with - and a space"
                ),
            );
            return Vec::new();
        };
        let items = items.iter().enumerate().map(|(index, node)| Place {
            path: format!("{}[{index}]", list.path),
            line: node.line,
            node,
        });
        items.collect()
    }

    /// A text. Numbers count as texts, as in MetalLB.
    pub(super) fn text(&mut self, place: Option<&Place<'_>>) -> Option<String> {
        let place = place?;
        match &place.node.value {
            Value::Plain(text) | Value::Quoted(text) => Some(text.clone()),
            Value::Null => None,
            other @ (Value::List(_) | Value::Map(_)) => {
                let found = describe(other);
                self.reject(place, format!("{found} stands here, a text is expected"));
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts<'a>(&mut self, list: Option<&Place<'a>>) -> Vec<(String, Place<'a>)> {
        let items = self.list(list).into_iter();
        items
            .filter_map(|item| Some((self.text(Some(&item))?, item)))
            .collect()
    }

    /// A whole number up to `max`.
    pub(super) fn number(&mut self, place: Option<&Place<'_>>, max: u32) -> Option<u32> {
        let place = place?;
        let found = match &place.node.value {
            Value::Plain(text) => match text.parse() {
                Ok(number) if number <= max => return Some(number),
                _ => format!("{text:?}"),
            },
            Value::Quoted(text) => format!("the text {text:?} in quotes"),
            other => describe(other).to_owned(),
        };
        self.reject(
            place,
            format!("{found} stands here, a whole number from 0 to {max} is expected"),
        );
        None
    }

    /// A boolean in any spelling of YAML 1.1, which MetalLB reads.
    pub(super) fn boolean(&mut self, place: Option<&Place<'_>>) -> Option<bool> {
        let place = place?;
        let found = match &place.node.value {
            Value::Plain(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => return Some(true),
                "false" | "no" | "off" | "n" => return Some(false),
                _ => format!("{text:?}"),
            },
            Value::Quoted(text) => format!("the text {text:?} in quotes"),
            other => describe(other).to_owned(),
        };
        self.reject(
            place,
            format!("{found} stands here, true or false is expected"),
        );
        None
    }
}

/// The fields of an object that have values.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(&'a str, Place<'a>)>);

impl<'a> Fields<'a> {
    /// The field of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Place<'a>> {
        let mut fields = self.0.iter();
        fields
            .find(|(known, _)| *known == name)
            .map(|(_, place)| place)
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Plain(_) | Value::Quoted(_) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "an object with fields",
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    // A name in another style, such as bfdProfile.
    let kebab: String = name
        .chars()
        .flat_map(|c| {
            let dash = c.is_ascii_uppercase().then_some('-');
            dash.into_iter().chain([c.to_ascii_lowercase()])
        })
        .collect();
    match nearest(
        &kebab.replace('_', "-"),
        known.iter().copied(),
        name.len() / 3,
    ) {
        Some(near) => format!("unknown field: write {near}"),
        None => format!(
            "unknown field: remove it; the fields here are {}",
            known.join(", ")
        ),
    }
}
