//! `ferrolb router-config` as a user runs it.

mod program;

use std::path::Path;
use std::process::Output;

use program::{ferrolb, folder_of, stdout};

fn case(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/router_config");
    folder.join(name).display().to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn router_config(arguments: &[&str]) -> Output {
    ferrolb(&[&["router-config"], arguments].concat())
}

#[test]
fn the_configuration_is_the_whole_output_and_notes_go_to_standard_error() {
    let rack = case("rack.yaml");
    let output = router_config(&["--for", "frr", "--router", "10.0.0.1", "-f", &rack]);
    let (text, notes) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{notes}");
    assert!(text.starts_with('!') && text.ends_with("exit\n"), "{text}");
    let variable = "${PASSWORD_METALLB_SYSTEM_TOR_PASSWORD}";
    assert!(
        text.contains(variable) && notes.contains(variable),
        "{notes}"
    );
    assert!(!text.contains("rack-42-secret") && !notes.contains("rack-42-secret"));
}

#[test]
fn the_exit_code_says_whether_the_syntax_can_express_all_sessions() {
    let unnumbered = case("unnumbered.yaml");
    let output = router_config(&["--for", "junos", "-f", &unnumbered]);
    let notes = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{notes}");
    assert!(
        notes.contains("ferrolb: not configured: BGPPeer metallb-system/fabric"),
        "{notes}"
    );
    let text = stdout(&output);
    assert!(text.starts_with("# generated, not run here"), "{text}");
    let output = router_config(&["--for", "bird", "-f", &unnumbered]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_missing_or_ambiguous_router_and_an_unknown_syntax_print_no_configuration() {
    let rack = case("rack.yaml");
    for (arguments, code, words) in [
        (&["--for", "frr"][..], 1, "choose it with --router"),
        (
            &["--for", "frr", "--router", "10.0.0.11"],
            1,
            "did you mean 10.0.0.1?",
        ),
        (&["--for", "iosxr"], 2, "possible values: frr, bird"),
        (&[], 2, "--for <SYNTAX>"),
    ] {
        let output = router_config(&[arguments, &["-f", &rack]].concat());
        let notes = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{notes}");
        assert!(notes.contains(words), "{notes}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn manifests_with_errors_are_reported_beside_what_can_be_generated() {
    let rack = std::fs::read_to_string(case("rack.yaml")).expect("a case");
    let folder = folder_of("bad.yaml", "kind: [\n");
    std::fs::write(folder.path().join("rack.yaml"), rack).expect("written");
    let path = folder.path().display().to_string();
    let output = router_config(&["--for", "bird", "--router", "fd00::1", "-f", &path]);
    assert!(stderr(&output).contains("can't see"), "{}", stderr(&output));
    assert!(stdout(&output).contains("protocol bgp ferrolb_tor_v6_all"));
}
