//! `ferrolb convert`: prints the resources that MetalLB's ConfigMap means.

mod program;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use program::{ferrolb, folder_of, stdout};
use serde_json::Value;

const TEXT: &str = "address-pools:\n- name: default\n  protocol: layer2\n  addresses:\n  \
                    - 192.0.2.0/24\n";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Converts standard input.
fn convert(input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .args(["convert", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// The ConfigMap with TEXT, as JSON.
fn config_map(name: &str, namespace: &str) -> Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace },
        "data": { "config": TEXT }
    })
}

#[test]
fn each_object_is_printed_in_the_order_of_metallbs_converter_and_followed_by_a_separator() {
    let output = ferrolb(&["convert", "walkthroughs/all-keys/config.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn the_input_is_a_config_map_a_list_several_documents_or_only_the_text() {
    let one = config_map("config", "lb");
    let other = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" }
    });
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": [other, one] });
    let documents = format!("{other}\n---\n{one}\n");
    let expected = |namespace: &str, source: &str| {
        format!(
            "# Converted by ferrolb from {source}.\napiVersion: metallb.io/v1beta1\nkind: \
             IPAddressPool\nmetadata:\n  name: default\n  namespace: {namespace}\nspec:\n  \
             addresses:\n  - 192.0.2.0/24\n---\napiVersion: metallb.io/v1beta1\nkind: \
             L2Advertisement\nmetadata:\n  name: l2advertisement1\n  namespace: {namespace}\n\
             spec:\n  ipAddressPools:\n  - default\n---\n"
        )
    };
    for input in [one.to_string(), list.to_string(), documents] {
        let output = convert(&input);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), expected("lb", "ConfigMap lb/config"));
    }
    let output = convert(TEXT);
    assert_eq!(stdout(&output), expected("metallb-system", "<stdin>"));
    // Of several ConfigMaps with the key, the one with MetalLB's name counts.
    let two = format!("{}\n---\n{one}\n", config_map("other", "lb"));
    assert_eq!(
        stdout(&convert(&two)),
        expected("lb", "ConfigMap lb/config")
    );
    let renamed = config_map("metallb-config", "lb").to_string();
    let output = convert(&renamed);
    assert_eq!(
        stdout(&output),
        expected("lb", "ConfigMap lb/metallb-config")
    );
}

#[test]
fn an_error_names_the_file_and_the_line_and_nothing_is_printed() {
    let folder = folder_of("config.yaml", &TEXT.replace("layer2", "layer3"));
    let file = folder.path().join("config.yaml").display().to_string();
    let output = ferrolb(&["convert", &file]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(1), "")
    );
    assert_eq!(
        stderr(&output),
        format!(
            "{file}:3: address-pools[0].protocol: \"layer3\" is not known: write protocol: \
             layer2, or protocol: bgp\n"
        )
    );
    let mut config_map = config_map("config", "lb");
    config_map["data"]["config"] = "peers: 1\n".into();
    let output = convert(&config_map.to_string());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "<stdin>:1 ConfigMap lb/config: data.config line 1: peers: a text stands here, a list is \
         expected: begin each entry with - and a space\n"
    );
    let output = convert("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("<stdin> contains no ConfigMap with the key config"),
        "{}",
        stderr(&output)
    );
    let output = ferrolb(&["convert", "missing.yaml"]);
    assert!(
        stderr(&output).contains("missing.yaml"),
        "{}",
        stderr(&output)
    );
}

/// A published walk-through, in which the indentation of the ConfigMap is lost.
#[test]
fn lost_indentation_is_an_error_at_its_line_with_a_correction_that_converts() {
    const FILE: &str = "walkthroughs/4-bgp/config.yaml";
    let converted = ferrolb(&["convert", FILE]);
    assert_eq!(converted.status.code(), Some(1));
    let checked = ferrolb(&["check", "-f", FILE]);
    assert_eq!(checked.status.code(), Some(1));
    for text in [stderr(&converted), stdout(&checked)] {
        let place = "walkthroughs/4-bgp/config.yaml:8: ";
        assert!(text.starts_with(place), "{text}");
        let (_, correction) = text.split_once("probably meant:\n").expect("a correction");
        let correction: String = correction
            .lines()
            .take_while(|line| line.starts_with("    "))
            .map(|line| format!("{}\n", &line[4..]))
            .collect();
        let output = convert(&correction);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{correction}{}",
            stderr(&output)
        );
        let printed = stdout(&output);
        for part in [
            "peerAddress: \"10.0.0.1\"",
            "peerASN: 64501",
            "- 192.168.10.0/24",
        ] {
            assert!(printed.contains(part), "{printed}");
        }
    }
}

#[test]
fn a_pool_that_gets_another_name_is_named() {
    let output = convert(&TEXT.replace("default", "My_Pool"));
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output).contains("name: my-pool"),
        "{}",
        stdout(&output)
    );
    assert_eq!(
        stderr(&output),
        "<stdin>:1: the pool \"My_Pool\" becomes my-pool: change the annotation address-pool of \
         Services that name it\n"
    );
}

#[test]
fn check_names_the_config_map_that_is_ignored_and_one_that_is_not_read() {
    let pool = "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: p, \
                namespace: metallb-system}, spec: {addresses: [198.51.100.0/24]}}";
    let both = format!("{}\n---\n{pool}\n", config_map("config", "metallb-system"));
    let folder = folder_of("all.yaml", &both);
    let path = folder.path().display().to_string();
    let text = stdout(&ferrolb(&["check", "-f", &path]));
    assert!(
        text.contains(
            "ConfigMap metallb-system/config: notice: is ignored, because objects take precedence \
             and the namespace has IPAddressPool metallb-system/p: delete the ConfigMap"
        ),
        "{text}"
    );
    for (name, namespace, options) in [
        ("metallb", "metallb-system", "--config-map metallb"),
        ("config", "lb", "--config-namespace lb"),
        (
            "release",
            "lb",
            "--config-map release --config-namespace lb",
        ),
    ] {
        let folder = folder_of("all.yaml", &config_map(name, namespace).to_string());
        let path = folder.path().display().to_string();
        let text = stdout(&ferrolb(&["check", "-f", &path]));
        let advice = format!(
            "MetalLB's ConfigMap is read only if its name is config and it is in the namespace \
             metallb-system: add {options}, or print"
        );
        assert!(text.contains(&advice), "{text}");
        // What the advice names.
        let options = options.split(' ');
        let arguments: Vec<&str> = ["check", "-f", &path].into_iter().chain(options).collect();
        let text = stdout(&ferrolb(&arguments));
        assert!(text.contains("all valid: 1 objects read"), "{text}");
    }
    // FRR's configuration, beside a ConfigMap that is not read.
    let extras = |text: &str| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "extras": text },
            "metadata": { "name": "bgpextras", "namespace": "metallb-system" }
        })
    };
    let unread = config_map("metallb", "metallb-system");
    for (text, noticed) in [("router bgp 64512\n", true), ("\n", false)] {
        let both = format!("{}\n---\n{unread}\n", extras(text));
        let folder = folder_of("all.yaml", &both);
        let text = stdout(&ferrolb(&[
            "check",
            "-f",
            &folder.path().display().to_string(),
        ]));
        let notice = "notice: ConfigMap bgpextras of v1 has no effect: MetalLB appends its key \
                      extras to the configuration of FRR, which ferrolb does not use";
        assert_eq!(text.contains(notice), noticed, "{text}");
        assert!(text.contains("notice: ConfigMap metallb of v1"), "{text}");
    }
    // Other programs have a ConfigMap of this name too.
    let other = "{apiVersion: v1, kind: Namespace, metadata: {name: web}}\n---\n\
                 {apiVersion: v1, kind: ConfigMap, metadata: {name: config, namespace: web}, data: \
                 {config: '{\"a\": 1}'}}";
    let folder = folder_of("all.yaml", other);
    let output = ferrolb(&["check", "-f", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

/// An AddressPool, as YAML.
fn address_pool(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: AddressPool\nmetadata: {{name: {name}, namespace: \
         lb}}\nspec: {spec}\n---\n"
    )
}

#[test]
fn an_address_pool_is_converted_to_a_pool_and_its_advertisements() {
    let ads = "bgpAdvertisements: [{localPref: 7, communities: [a]}, {aggregationLength: 24}]";
    let routed = format!("{{protocol: bgp, addresses: [192.0.2.0/24], {ads}}}");
    let lan = "{protocol: layer2, addresses: [198.51.100.0/24], autoAssign: false}";
    let input = address_pool("routed", &routed) + &address_pool("lan", lan);
    let output = convert(&input);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    // What it prints is valid.
    let folder = folder_of("all.yaml", &stdout(&output).replace("[a]", "['64512:1']"));
    let path = folder.path().display().to_string();
    let text = stdout(&ferrolb(&["check", "--config-namespace=lb", "-f", &path]));
    assert!(!text.contains("AddressPool lb/"), "{text}");
}

#[test]
fn an_invalid_address_pool_is_named_with_its_place() {
    let input =
        address_pool("old", "{protocol: arp}") + &address_pool("odd", "{protocol: bgp, x: 1}");
    let output = convert(&input);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert_eq!(
        stderr(&output),
        "<stdin>:1 AddressPool lb/old: spec.protocol: \"arp\" is not known: write layer2 or bgp\n\
         <stdin>:6 AddressPool lb/odd: spec.x: AddressPool has no such field: check the spelling\n"
    );
}

#[test]
fn the_help_has_examples() {
    let help = stdout(&ferrolb(&["convert", "--help"]));
    for example in [
        "ferrolb convert config.yaml",
        "configmap config -o yaml | ferrolb convert -",
        "kubectl delete -n metallb-system configmap config",
    ] {
        assert!(help.contains(example), "{help}");
    }
}
