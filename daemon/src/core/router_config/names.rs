//! Names in configurations. Names of Kubernetes objects contain characters that a syntax doesn't
//! allow, and manifests may contain any text.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::api::ferrolb::INTERFACE_MAX;
use crate::core::hash::fnv1a;

/// Maximum length of a symbol. BIRD's limit is 64 characters for `ferrolb_PEER_NODE`.
const SYMBOL_MAX: usize = 26;

/// A symbol for each name: letters, digits and underscores. Different names have different symbols,
/// which don't depend on the other names unless two would be equal.
pub(crate) fn symbols<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, String> {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        *users.entry(plain(name)).or_default() += 1;
    }
    let symbol = |name: &str| {
        let plain = plain(name);
        if plain.len() <= SYMBOL_MAX && users.get(&plain) == Some(&1) {
            return plain;
        }
        let start: String = plain.chars().take(SYMBOL_MAX - 9).collect();
        format!("{start}_{:08x}", fnv1a(name) & 0xffff_ffff)
    };
    names.iter().map(|name| (*name, symbol(name))).collect()
}

fn plain(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() { c } else { '_' }
    };
    name.chars().map(allowed).collect()
}

/// The name as a description: a word without quotes.
pub(crate) fn word(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-._,".contains(*c);
    name.chars().filter(allowed).collect()
}

/// The router's interface to a node, if the operator names it after the node: its name if the
/// kernel allows that, or a hash of it.
pub(crate) fn interface(node: &str) -> String {
    if node.len() <= INTERFACE_MAX && !node.is_empty() && word(node) == node {
        return node.to_owned();
    }
    format!("node{:08x}", fnv1a(node) & 0xffff_ffff)
}

/// The name of an environment variable.
pub(crate) fn variable(parts: &[&str]) -> String {
    plain(&parts.join("_")).to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_symbol_of_its_own() {
        let long = "a".repeat(100);
        let names = [
            "tor",
            "tor-a",
            "tor.a",
            long.as_str(),
            "x\n neighbor 1.1.1.1",
        ];
        let symbols = symbols(names);
        assert_eq!(symbols["tor"], "tor");
        assert_ne!(symbols["tor-a"], symbols["tor.a"]);
        assert_eq!(symbols["x\n neighbor 1.1.1.1"], "x__neighbor_1_1_1_1");
        let different: BTreeSet<&String> = symbols.values().collect();
        assert_eq!(different.len(), names.len());
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for symbol in different {
            assert!(
                symbol.len() <= SYMBOL_MAX && symbol.chars().all(allowed),
                "{symbol}"
            );
        }
    }

    #[test]
    fn another_node_does_not_change_a_symbol() {
        let alone = symbols(["node-a"]);
        let beside = symbols(["node-a", "node-b"]);
        assert_eq!(alone["node-a"], beside["node-a"]);
    }

    #[test]
    fn an_interface_has_a_name_that_the_kernel_allows() {
        assert_eq!(interface("node-1.lan"), "node-1.lan");
        for name in ["worker-1.rack-2.example.com", "a b", "a/b", ""] {
            let interface = interface(name);
            assert!(interface.len() <= INTERFACE_MAX, "{interface}");
            assert_eq!(word(&interface), interface);
        }
    }

    #[test]
    fn descriptions_and_variables_contain_nothing_to_be_interpreted() {
        assert_eq!(word("node-1\" ; shutdown\n}"), "node-1shutdown");
        assert_eq!(
            variable(&["PASSWORD", "metallb-system", "tor.a"]),
            "PASSWORD_METALLB_SYSTEM_TOR_A"
        );
    }
}
