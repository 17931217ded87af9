//! MetalLB's ConfigMap `config`, which configured it before 0.13: converts it into the objects that
//! it means, which are then compiled as any other. Its rules are those of MetalLB 0.12.1, where one
//! mistake invalidates the whole ConfigMap.

mod convert;
mod fields;
mod indentation;
mod mistake;
mod names;
mod precedence;
mod source;
mod sources;
mod state;
mod tree;
mod validate;

pub(crate) use self::convert::Object;
pub(crate) use self::indentation::LostIndentation;
pub(crate) use self::mistake::Mistake;
pub(crate) use self::names::kubernetes_names;
pub(super) use self::sources::Origin;
pub(crate) use self::sources::Sources;
pub(super) use self::state::ConfigMaps;

use serde_json::Value;

use self::fields::{Place, Reader, SECTIONS};
use crate::core::api::RawObject;
use crate::core::nearest::nearest;

/// The key of the ConfigMap that contains the text.
pub(crate) const KEY: &str = indentation::KEY;

/// The objects that a text means, with their names in MetalLB, in the order of its own converter.
///
/// # Errors
/// All mistakes, at least one.
pub(crate) fn convert(text: &str, namespace: &str) -> Result<Vec<Object>, Vec<Mistake>> {
    let mut reader = Reader::default();
    let document = tree::read(text, &mut reader.mistakes).map_err(|mistake| vec![mistake])?;
    if let Some(mistake) = indentation::misplaced(&document) {
        return Err(vec![mistake]);
    }
    let objects = convert::objects(&Place::root(&document), namespace, &mut reader);
    let mut mistakes = reader.mistakes;
    if mistakes.is_empty() {
        // The objects lack the values that could not be read.
        mistakes = validate::mistakes(&objects);
    }
    mistakes.sort_by_key(|mistake| mistake.line);
    if mistakes.is_empty() {
        Ok(objects)
    } else {
        Err(mistakes)
    }
}

/// The text as it was probably meant, if its indentation is lost. Without passwords.
pub(crate) fn correction(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let corrected = indentation::reindented(&lines)?;
    is_valid(&corrected).then_some(corrected)
}

/// Finds a ConfigMap in a manifest whose text is not indented below its key.
pub(crate) fn lost_indentation(manifest: &str) -> Option<LostIndentation> {
    indentation::lost_indentation(manifest, is_valid)
}

fn is_valid(text: &str) -> bool {
    convert(text, "").is_ok()
}

/// The text of a ConfigMap.
///
/// # Errors
/// There is none, with the remedy.
pub(crate) fn text_of(raw: &RawObject) -> Result<&str, String> {
    let data = raw.body.get("data").and_then(Value::as_object);
    let names = || data.into_iter().flat_map(|data| data.keys());
    let beside: Vec<&str> = names()
        .map(String::as_str)
        .filter(|name| SECTIONS.contains(name))
        .collect();
    if !beside.is_empty() {
        return Err(format!(
            "data: {} must be a part of the text of {KEY}: write {KEY}: | and indent the lines \
             below it",
            beside.join(", ")
        ));
    }
    match data.and_then(|data| data.get(KEY)) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!(
            "data.{KEY} is not a text: write {KEY}: | and indent the lines below it"
        )),
        None => {
            let near = nearest(KEY, names().map(String::as_str), 3);
            let near = near.map_or_else(String::new, |near| format!(" (rename {near})"));
            Err(format!(
                "data: there is no key {KEY}: write MetalLB's configuration under that key{near}, \
                 or delete the ConfigMap"
            ))
        }
    }
}

#[cfg(test)]
mod tests;
