//! Reads MetalLB's ConfigMaps and AddressPools from a file, for their conversion.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use serde_json::Value;

use super::documents;
use super::manifests::items;
use super::walk::STANDARD_INPUT;
use crate::core::api::{CONFIG_MAP, Kind, RawObject};
use crate::core::config::config_map::{self, KEY};
use crate::core::syntax::{self, OBJECT_MAX, SyntaxError};

/// A text of MetalLB's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigMapText {
    /// The namespace and name of the ConfigMap. None for a text without one.
    pub name: Option<(Option<String>, String)>,
    /// The line of the document of the ConfigMap, from 1.
    pub line: usize,
    /// The text, or why there is none.
    pub text: Result<String, String>,
}

/// What a file contains.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The texts.
    pub texts: Vec<ConfigMapText>,
    /// The AddressPools, each with the line of its document, from 1.
    pub address_pools: Vec<(usize, RawObject)>,
    /// Its syntax errors.
    pub errors: Vec<SyntaxError>,
}

/// What a file contains: ConfigMaps and AddressPools among other objects, or nothing but the text
/// of a ConfigMap.
///
/// # Errors
/// The file can't be read.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    let input: Box<dyn Read> = if path == Path::new(STANDARD_INPUT) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path)?)
    };
    let limit = u64::try_from(INPUT_MAX).unwrap_or(u64::MAX);
    let mut octets = Vec::new();
    input.take(limit).read_to_end(&mut octets)?;
    if octets.len() >= INPUT_MAX {
        return Err(io::Error::other(syntax::too_large()));
    }
    if let Ok(text) = str::from_utf8(&octets)
        && !contains_objects(text)
    {
        let text = ConfigMapText {
            name: None,
            line: 1,
            text: Ok(text.trim_start_matches('\u{feff}').to_owned()),
        };
        return Ok(Found {
            texts: vec![text],
            ..Found::default()
        });
    }
    let mut found = Found::default();
    let mut sink = |line, value| match value {
        Ok(value) => items(value)
            .into_iter()
            .for_each(|item| found.add(line, item)),
        Err(error) => found.errors.push(error),
    };
    documents::read(Cursor::new(octets), &mut sink)?;
    // Other programs have ConfigMaps with this key too.
    let is_named =
        |text: &ConfigMapText| matches!(&text.name, Some((_, name)) if name == CONFIG_MAP);
    if found.texts.iter().any(is_named) {
        found.texts.retain(is_named);
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, line: usize, item: Value) {
        let Ok(raw) = RawObject::from_json(item) else {
            return;
        };
        match Kind::find(&raw.api_version, &raw.kind) {
            Some(Kind::AddressPool) => self.address_pools.push((line, raw)),
            Some(Kind::ConfigMap) => self.texts.extend(text_of(line, raw)),
            _ => {}
        }
    }
}

/// Maximum size of the file, in octets. A list of all ConfigMaps may be large.
const INPUT_MAX: usize = 8 * OBJECT_MAX;

/// Whether a text contains objects of Kubernetes, which have a kind.
fn contains_objects(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    lines.any(|line| line.starts_with("kind:") || line.contains("\"kind\":"))
}

fn text_of(line: usize, raw: RawObject) -> Option<ConfigMapText> {
    let text = config_map::text_of(&raw).map(str::to_owned);
    let has_key = raw
        .body
        .get("data")
        .is_some_and(|data| data.get(KEY).is_some());
    if !has_key && raw.metadata.name != CONFIG_MAP {
        return None;
    }
    Some(ConfigMapText {
        name: Some((raw.metadata.namespace, raw.metadata.name)),
        line,
        text,
    })
}
