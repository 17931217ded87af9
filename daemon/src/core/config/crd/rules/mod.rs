//! The rules of the CRDs, as CEL expressions with messages for the user: what the parser refuses, a
//! schema can't express and CEL can. Their functions exist since Kubernetes 1.31. Each rule has a
//! case in `daemon/tests/specs`, where the cases that only the parser refuses are listed as well.
//!
//! The API server limits the cost of a rule, which it estimates from `maxItems` and `maxLength` of
//! the fields in it. So a field that a rule reads has such a limit, and no rule loops over the
//! parts of a text.

mod lists;
mod peer;
mod pool;

use schemars::Schema;
use serde_json::{Value, json};

pub(super) use self::lists::{advertisement_rules, community_rules, layer2_rules};
pub(super) use self::peer::peer_rules;
pub(super) use self::pool::pool_rules;

use crate::core::api::duration::DURATION_PATTERN;
use crate::core::api::ferrolb::INTERFACE_MAX;

/// What is wrong with a text that is no duration.
const NO_DURATION: &str = "is not a duration: write it as 90s or 1m30s";

/// A rule of a CRD.
pub(super) struct Rule {
    /// Where in the schema of the spec it stands, as a JSON pointer. Empty: at the spec.
    place: String,
    /// The field that the error names, if the rule stands at the spec.
    field: Option<&'static str>,
    /// An expression that is true if the value at the place is valid.
    expression: String,
    /// The error.
    message: String,
    /// The error as an expression, if it contains what was found. The API server uses `message` if
    /// it can't evaluate this.
    found: Option<String>,
}

impl Rule {
    /// A rule about a text, whose error begins with the text.
    fn text(pointer: &str, expression: String, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            place: format!("/properties/{pointer}"),
            field: None,
            expression,
            found: Some(format!(
                "'\"' + self + {}",
                literal(&format!("\" {message}"))
            )),
            message,
        }
    }

    /// A rule between fields. The error names this one.
    fn between(field: &'static str, expression: String, message: impl Into<String>) -> Self {
        Self {
            place: String::new(),
            field: Some(field),
            expression,
            message: message.into(),
            found: None,
        }
    }

    /// The rule with an error that contains what was found: a CEL expression.
    fn found(self, expression: String) -> Self {
        Self {
            found: Some(expression),
            ..self
        }
    }

    fn value(&self) -> Value {
        let mut rule = json!({ "rule": self.expression, "message": self.message });
        if let Some(found) = &self.found {
            rule["messageExpression"] = found.as_str().into();
        }
        if let Some(field) = self.field {
            rule["fieldPath"] = format!(".{field}").into();
        }
        rule
    }
}

/// Adds rules to the schema of a spec.
pub(super) fn add(schema: &mut Schema, rules: Vec<Rule>) {
    const RULES: &str = "x-kubernetes-validations";
    for rule in rules {
        let part = match rule.place.as_str() {
            "" => Some(schema.ensure_object()),
            place => schema.pointer_mut(place).and_then(Value::as_object_mut),
        };
        let list = part.map(|part| part.entry(RULES).or_insert_with(|| json!([])));
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.push(rule.value());
        }
    }
}

/// A text as CEL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// An expression: the text field is set.
fn set(field: &str) -> String {
    format!("(has(self.{field}) && self.{field} != '')")
}

/// An expression: the text is a duration.
fn is_duration(text: &str) -> String {
    format!("{text}.matches('{DURATION_PATTERN}')")
}

/// Rules about a duration: its form, and what must be true of `t`.
fn duration_rules(pointer: &str, limit: &str, message: impl Into<String>) -> [Rule; 2] {
    let form = is_duration("self");
    [
        Rule::text(pointer, form.clone(), NO_DURATION),
        Rule::text(
            pointer,
            format!("!{form} || {}", limit.replace("$t", "duration(self)")),
            message,
        ),
    ]
}

/// A rule about the name of an interface, by the kernel's rules. `optional`: an empty text is none.
fn interface_rule(pointer: &str, optional: bool) -> Rule {
    let min = usize::from(!optional);
    Rule::text(
        pointer,
        format!(
            "self.matches('^[^/:\\\\s\\\\pZ\\\\p{{Cc}}]{{{min},{INTERFACE_MAX}}}$') && \
             !(self in ['.', '..'])"
        ),
        format!(
            "can't be the name of an interface: see ip link, at most {INTERFACE_MAX} characters, \
             one name in each entry"
        ),
    )
}
