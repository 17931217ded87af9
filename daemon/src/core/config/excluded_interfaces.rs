//! The interfaces that layer 2 never uses: MetalLB's file of regular expressions, or its default
//! list.

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

/// MetalLB's default list: bridges and devices of containers, network plugins and kube-proxy.
const DEFAULT: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// The only key of the file.
const KEY: &str = "announcedInterfacesToExclude";

/// Maximum size of a compiled expression, in octets: far above what a list of names needs.
const COMPILED_MAX: usize = 1 << 20;

/// The interfaces that are not used. An expression matches anywhere in the name, unless it has
/// anchors.
#[derive(Clone, Debug)]
pub(crate) struct ExcludedInterfaces(Vec<Regex>);

impl Default for ExcludedInterfaces {
    /// MetalLB's default list.
    fn default() -> Self {
        // A test compiles each of them.
        let expressions = DEFAULT.iter().filter_map(|text| compile(text).ok());
        Self(expressions.collect())
    }
}

impl ExcludedInterfaces {
    /// Reads the file, in YAML. An empty list excludes nothing. `file` is its name, for errors.
    ///
    /// # Errors
    /// The file, what is wrong, and the remedy.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, String> {
        let hint = format!("write {KEY}: and a list of regular expressions, such as [\"^veth.*\"]");
        let value: Value = serde_saphyr::from_str(text).map_err(|error| {
            format!("{file} is not valid YAML ({}): {hint}", first_line(&error))
        })?;
        let Value::Object(fields) = value else {
            return Err(format!("{file} has no field {KEY}: {hint}"));
        };
        if let Some(name) = fields.keys().find(|name| *name != KEY) {
            return Err(format!("{file}: {name}: unknown field: {hint}"));
        }
        let list = fields.get(KEY).unwrap_or(&Value::Null);
        let patterns: Option<Vec<String>> = Deserialize::deserialize(list)
            .map_err(|_| format!("{file}: {KEY} is not a list of texts: {hint}"))?;
        let patterns = patterns.unwrap_or_default();
        let patterns = patterns.iter().enumerate().map(|(index, pattern)| {
            let place = format!("{file}: {KEY}[{index}]");
            compile(pattern).map_err(|error| format!("{place}: {error}"))
        });
        Ok(Self(patterns.collect::<Result<_, _>>()?))
    }

    /// Whether an interface is not used.
    pub(crate) fn excludes(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|expression| expression.is_match(name.as_bytes()))
    }
}

/// The first line has the position and the cause, further ones repeat the text.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.is_empty() {
        let remedy = "is empty and would exclude every interface: remove it, or write .* if you \
            mean that";
        return Err(remedy.to_owned());
    }
    let mut builder = RegexBuilder::new(pattern);
    // Names of interfaces are octets. Without tables of Unicode, \w is [0-9A-Za-z_], as in Go.
    let compiled = builder.unicode(false).size_limit(COMPILED_MAX).build();
    compiled.map_err(|error| {
        // The first line says "regex parse error", the last one the cause.
        let text = error.to_string();
        let cause = text.lines().last().unwrap_or_default();
        let cause = cause.trim_start_matches("error: ");
        format!("{pattern:?} is not a regular expression ({cause}): correct or remove it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/metallb/excludel2.yaml";

    fn parse(text: &str) -> Result<ExcludedInterfaces, String> {
        ExcludedInterfaces::parse(FILE, text)
    }

    #[test]
    fn the_default_list_excludes_devices_of_containers_but_no_network_card() {
        let default = ExcludedInterfaces::default();
        assert_eq!(default.0.len(), DEFAULT.len(), "each of them compiles");
        for name in [
            "lo",
            "docker0",
            "veth1a2b",
            "cali12",
            "kube-ipvs0",
            "lxc_health",
        ] {
            assert!(default.excludes(name), "{name}");
        }
        for name in [
            "eth0", "eno1", "bond0", "br0", "eth0.100", "wlan0", "local0",
        ] {
            assert!(!default.excludes(name), "{name}");
        }
    }

    #[test]
    fn an_expression_matches_anywhere_unless_it_has_anchors() {
        let list = parse("announcedInterfacesToExclude: [\"th1\", '^br\\w*$']").expect("valid");
        for (name, excluded) in [
            ("eth1", true),
            ("eth10", true),
            ("br0", true),
            ("xbr0", false),
        ] {
            assert_eq!(list.excludes(name), excluded, "{name}");
        }
    }

    #[test]
    fn an_empty_list_excludes_nothing() {
        for text in [
            "announcedInterfacesToExclude: []",
            "announcedInterfacesToExclude:",
        ] {
            assert!(!parse(text).expect("valid").excludes("lo"), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_file_the_pattern_and_the_remedy() {
        let cases = [
            (
                "announcedInterfacesToExclude: [ok, \"eth(\"]",
                "ToExclude[1]: \"eth(\" is not",
            ),
            (
                "announcedInterfacesToExclude: [\"\"]",
                "ToExclude[0]: is empty",
            ),
            (
                "announcedInterfaceToExclude: [eth0]",
                "announcedInterfaceToExclude: unknown field",
            ),
            (
                "announcedInterfacesToExclude: eth0",
                "is not a list of texts",
            ),
            ("- eth0", "has no field announcedInterfacesToExclude"),
            ("a: [", "is not valid YAML"),
        ];
        for (text, expected) in cases {
            let error = parse(text).expect_err(text);
            assert!(
                error.starts_with(FILE) && error.contains(expected),
                "{error}"
            );
            assert!(!error.contains('\n'), "{error:?}");
        }
    }
}
