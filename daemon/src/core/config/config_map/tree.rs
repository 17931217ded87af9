//! The YAML of the ConfigMap as a tree in which every value has its line, so that errors name it.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::mistake::Mistake;
use crate::core::syntax;

/// Maximum number of values, including those that aliases repeat. etcd accepts objects of 1.5 MiB.
const NODES_MAX: usize = 200_000;

/// Maximum depth: that of a condition in a selector of a peer is 6.
const DEPTH_MAX: usize = 32;

/// A value and its line, counted from 1.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The line where it begins.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// A text that is not in quotes: it may be a number or a boolean.
    Plain(String),
    /// A text in quotes, or a block of text.
    Quoted(String),
    /// A list.
    List(Vec<Node>),
    /// Fields, in their order.
    Map(Vec<Field>),
}

/// A field.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Its name.
    pub name: String,
    /// The line of the name.
    pub line: usize,
    /// Its value.
    pub value: Node,
}

/// Reads a document. Adds a mistake for each field that is given twice; the first one is kept.
///
/// # Errors
/// The text is not valid YAML.
pub(super) fn read(text: &str, mistakes: &mut Vec<Mistake>) -> Result<Node, Mistake> {
    let mut tree = Tree {
        mistakes,
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|_| invalid(text))?;
        tree.add(event, span.start.line())?;
    }
    Ok(tree.root.unwrap_or(Node {
        line: 1,
        value: Value::Null,
    }))
}

/// The mistake in a text that is not valid YAML.
fn invalid(text: &str) -> Mistake {
    match serde_saphyr::from_str::<serde_json::Value>(text) {
        Err(error) => {
            let error = syntax::yaml(text, 1, &error);
            Mistake::new(error.line, "", error.message)
        }
        Ok(_) => Mistake::new(
            1,
            "",
            "is not valid YAML: check the indentation and the quotes",
        ),
    }
}

/// A list or the fields of an object, until their end.
struct Open {
    line: usize,
    anchor: usize,
    is_map: bool,
    items: Vec<Node>,
}

struct Tree<'a> {
    mistakes: &'a mut Vec<Mistake>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Tree<'_> {
    fn add(&mut self, event: Event<'_>, line: usize) -> Result<(), Mistake> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = match style {
                    ScalarStyle::Plain if is_null(&text) => Value::Null,
                    ScalarStyle::Plain => Value::Plain(text.into_owned()),
                    _ => Value::Quoted(text.into_owned()),
                };
                self.put(anchor, Node { line, value })
            }
            Event::SequenceStart(_, anchor, _) => self.open(line, anchor, false),
            Event::MappingStart(_, anchor, _) => self.open(line, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let node = known.ok_or_else(|| {
                    let message =
                        "an alias refers to a value that contains it: write the value out";
                    Mistake::new(line, "", message)
                })?;
                self.nodes += size(&node);
                self.put(0, node)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, is_map: bool) -> Result<(), Mistake> {
        if self.open.len() >= DEPTH_MAX {
            let message = "fields and lists are nested too deep: no field of the configuration is";
            return Err(Mistake::new(line, "", message));
        }
        self.open.push(Open {
            line,
            anchor,
            is_map,
            items: Vec::new(),
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Mistake> {
        let Some(ended) = self.open.pop() else {
            return Ok(());
        };
        let value = if ended.is_map {
            Value::Map(self.fields(ended.items))
        } else {
            Value::List(ended.items)
        };
        let line = ended.line;
        self.put(ended.anchor, Node { line, value })
    }

    fn put(&mut self, anchor: usize, node: Node) -> Result<(), Mistake> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = "has too many values, or repeats too much by aliases: write them out";
            return Err(Mistake::new(node.line, "", message));
        }
        // 0 stands for none.
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(parent) => parent.items.push(node),
            None if self.root.is_none() => self.root = Some(node),
            None => {
                let message = "a second document begins here: remove it, only one is read";
                return Err(Mistake::new(node.line, "", message));
            }
        }
        Ok(())
    }

    /// Names and values alternate.
    fn fields(&mut self, items: Vec<Node>) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        let mut merged = Vec::new();
        let mut items = items.into_iter();
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            let line = name.line;
            let name = match name.value {
                Value::Plain(name) | Value::Quoted(name) => name,
                Value::Null | Value::List(_) | Value::Map(_) => {
                    let message = "the name of a field is not a text: write name: value";
                    self.mistakes.push(Mistake::new(line, "", message));
                    continue;
                }
            };
            if name == "<<" {
                merged.push(value);
            } else if let Some(first) = fields.iter().find(|field| field.name == name) {
                let message = format!(
                    "is given twice, here and in line {}: remove one of them",
                    first.line
                );
                self.mistakes.push(Mistake::new(line, &name, message));
            } else {
                fields.push(Field { name, line, value });
            }
        }
        for node in merged {
            self.merge(node, &mut fields);
        }
        fields
    }

    /// Adds the fields of a merge key. Those that the object has itself take precedence.
    fn merge(&mut self, node: Node, fields: &mut Vec<Field>) {
        let sources = match node.value {
            Value::List(nodes) => nodes,
            value => vec![Node { value, ..node }],
        };
        for source in sources {
            let Value::Map(more) = source.value else {
                let message = "takes an alias of an object: write the fields out";
                self.mistakes.push(Mistake::new(source.line, "<<", message));
                continue;
            };
            for field in more {
                if fields.iter().all(|known| known.name != field.name) {
                    fields.push(field);
                }
            }
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The number of values in a value, without itself.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Plain(_) | Value::Quoted(_) => 0,
        Value::List(items) => items.iter().map(|item| 1 + size(item)).sum(),
        Value::Map(fields) => fields.iter().map(|field| 2 + size(&field.value)).sum(),
    }
}
