//! The state files of other versions (docs/versions.md): one of an older version is read, and so is
//! one with fields of a newer version.

use std::fs;
use std::io;
use std::path::Path;

use ferrolb::testing::StateDir;
use ipnet::IpNet;
use serde_json::{Value, json};

/// The prefixes in a state file with this content; none if the state is not used.
fn load(state: &Value) -> io::Result<Option<Vec<IpNet>>> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("desired.json"), state.to_string())?;
    let saved = StateDir::new(folder.path().to_owned()).load()?;
    Ok(saved.map(|saved| saved.prefixes().into_iter().collect()))
}

/// A state that ferrolb 0.1.0 wrote, as if on this host.
fn of_0_1_0() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-0.1.0.json");
    let text = fs::read_to_string(path).expect("a fixture");
    let mut state: Value = serde_json::from_str(&text).expect("JSON");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    state["boot_id"] = json!(boot_id);
    state
}

#[test]
fn a_state_of_0_1_0_is_read() {
    let prefixes = load(&of_0_1_0()).expect("readable").expect("of this boot");
    assert_eq!(prefixes, ["192.0.2.1/32".parse().expect("a prefix")]);
}

#[test]
fn unknown_fields_of_a_newer_version_are_ignored() {
    let mut state = of_0_1_0();
    for place in [
        "",
        "/peers/0",
        "/peers/0/config",
        "/peers/0/config/transport",
        "/peers/0/config/timers",
        "/routes/0",
        "/routes/0/attributes",
    ] {
        let object = state.pointer_mut(place).expect("an object");
        object["later"] = json!({"a": 1});
    }
    assert!(load(&state).expect("readable").is_some());
}

#[test]
fn a_state_without_a_field_that_has_no_default_is_an_error() {
    let mut state = of_0_1_0();
    let peer = state["peers"][0]["config"].as_object_mut().expect("a peer");
    peer.remove("name");
    let error = load(&state).expect_err("incomplete");
    assert!(error.to_string().contains("name"), "{error}");
}
