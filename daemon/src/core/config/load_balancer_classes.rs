//! The load balancer classes of other programs whose Services an advertisement announces.

use std::collections::BTreeSet;

use super::selector::{is_label_key, unique};
use crate::core::api::{Errors, FieldError};

/// The entry that stands for every class.
const ANY: &str = "any";
const FIELD: &str = "spec.loadBalancerClasses";

/// The classes of Services that an advertisement announces although another program is in charge
/// of them and writes their status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancerClasses {
    any: bool,
    names: BTreeSet<String>,
}

impl LoadBalancerClasses {
    /// Checks the field.
    ///
    /// # Errors
    /// Every entry that no Service can have as its class, and a class that is listed twice.
    pub(super) fn parse(classes: &[String]) -> Result<Self, FieldError> {
        let mut errors = Errors::default();
        for (index, class) in classes.iter().enumerate() {
            // A class has the syntax of a label key.
            if !is_label_key(class) {
                errors.add(FieldError::new(
                    format!("{FIELD}[{index}]"),
                    format!(
                        "{class:?} is no class: write the spec.loadBalancerClass of the Services, \
                         such as example.com/other, or {ANY} for every class"
                    ),
                ));
            }
        }
        let names = errors.record(unique(FIELD, classes));
        let parsed = names.map(|names| Self {
            any: names.contains(ANY),
            names,
        });
        errors.into_result(parsed)
    }

    /// Whether Services of this class of another load balancer are announced.
    pub fn accepts(&self, class: &str) -> bool {
        self.any || self.names.contains(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(classes: &[&str]) -> Result<LoadBalancerClasses, String> {
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        LoadBalancerClasses::parse(&classes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_class_of_another_load_balancer_is_announced_only_if_it_is_listed() {
        let accepted = |classes: &[&str]| {
            let parsed = parse(classes).expect("valid");
            ["a.example/lb", "other"].map(|class| parsed.accepts(class))
        };
        assert_eq!(accepted(&[]), [false, false]);
        assert_eq!(accepted(&["a.example/lb", "x"]), [true, false]);
        assert_eq!(accepted(&["any"]), [true, true]);
    }

    #[test]
    fn an_entry_that_no_service_can_have_as_its_class_is_refused() {
        let long = "a".repeat(64);
        for entry in ["", "*", "a b", "a/", "/b", "a/b/c", "-a", "a_b/c", &long] {
            let error = parse(&["internal-vip", entry]).expect_err(entry);
            let expected = format!("spec.loadBalancerClasses[1]: {entry:?} is no class: write the");
            assert!(error.starts_with(&expected), "{error}");
        }
        let twice = parse(&["a", "a"]).expect_err("listed twice");
        assert_eq!(
            twice,
            "spec.loadBalancerClasses: lists \"a\" twice: remove one"
        );
    }
}
