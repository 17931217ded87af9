//! `ferrolb explain` and `ferrolb plan --against` as a user runs them.

mod program;

use std::path::Path;

use program::{ferrolb, stdout};
use serde_json::Value;

fn case(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    folder.join(name).display().to_string()
}

#[test]
fn the_exit_code_says_whether_the_service_is_announced() {
    let (base, withheld) = (case("base.yaml"), case("withheld.yaml"));
    let explain = |service: &str, output: &str| {
        ferrolb(&[
            "explain", "svc", service, "-o", output, "-f", &base, &withheld,
        ])
    };
    let announced = explain("fine", "json");
    assert_eq!(announced.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&announced.stdout).expect("JSON");
    assert_eq!(answer["subject"], "Service default/fine");
    assert_eq!(answer["steps"][0]["stage"], "service");
    let not_announced = explain("default/unselected", "table");
    assert_eq!(not_announced.status.code(), Some(1));
    let text = stdout(&not_announced);
    assert!(text.contains("not announced: ServiceNotSelected"), "{text}");
    let unknown = explain("default/fin", "table");
    assert_eq!(unknown.status.code(), Some(1));
    let error = String::from_utf8_lossy(&unknown.stderr);
    assert!(error.contains("did you mean default/fine?"), "{error}");
}

#[test]
fn without_objects_and_without_a_cluster_the_error_says_what_to_give() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().display().to_string();
    let answer = ferrolb(&["explain", "node", "node-a", "-f", &empty]);
    assert_eq!(answer.status.code(), Some(1));
    let error = String::from_utf8_lossy(&answer.stderr);
    assert!(error.contains("no objects found"), "{error}");
    let kubeconfig = folder.path().join("none").display().to_string();
    let answer = ferrolb(&["explain", "node", "node-a", "--kubeconfig", &kubeconfig]);
    assert_eq!(answer.status.code(), Some(1));
    let error = String::from_utf8_lossy(&answer.stderr);
    assert!(error.contains("kubeconfig"), "{error}");
}

#[test]
fn a_change_that_withdraws_exits_with_3_and_one_that_does_not_with_0() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("before");
    std::fs::create_dir(&before).expect("a folder");
    for name in ["base.yaml", "withheld.yaml"] {
        std::fs::copy(case(name), before.join(name)).expect("copied");
    }
    let before = before.display().to_string();
    let plan = |arguments: &[&str]| ferrolb(&[&["plan", "--against", &before], arguments].concat());
    let same = plan(&["-f", &case("withheld.yaml")]);
    assert_eq!(same.status.code(), Some(0), "{}", stdout(&same));
    assert_eq!(stdout(&same), "nothing changes\n");
    let lost = plan(&["--lose", "node-a", "-o", "json"]);
    assert_eq!(lost.status.code(), Some(3));
    let difference: Value = serde_json::from_slice(&lost.stdout).expect("JSON");
    assert_eq!(difference["lost"][0], "default/contested");
    let unknown = plan(&["--drain", "node-x"]);
    assert_eq!(unknown.status.code(), Some(1));
    let error = String::from_utf8_lossy(&unknown.stderr);
    assert!(error.contains("there is no Node node-x"), "{error}");
    let neither = ferrolb(&["plan"]);
    assert_eq!(neither.status.code(), Some(2), "a usage error");
}

#[test]
fn an_api_server_that_does_not_answer_is_an_error_with_a_command_that_shows_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let text = "{apiVersion: v1, kind: Config, current-context: lab,
        clusters: [{name: lab, cluster: {server: 'http://127.0.0.1:1'}}],
        users: [{name: lab, user: {}}],
        contexts: [{name: lab, context: {cluster: lab, user: lab}}]}";
    std::fs::write(&kubeconfig, text).expect("written");
    let kubeconfig = kubeconfig.display().to_string();
    let explain: &[&str] = &["explain", "svc", "web"];
    for command in [explain, &["plan", "--against", "live", "--lose", "node-a"]] {
        let answer = ferrolb(&[command, &["--kubeconfig", &kubeconfig]].concat());
        assert_eq!(answer.status.code(), Some(1));
        let error = String::from_utf8_lossy(&answer.stderr);
        for word in ["can't read the cluster", "kubectl get --raw /readyz"] {
            assert!(error.contains(word), "{command:?}: {error}");
        }
    }
}

#[test]
fn a_class_and_exclusion_of_the_command_line_apply_to_both_plans() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("before");
    std::fs::create_dir(&before).expect("a folder");
    for name in ["base.yaml", "withheld.yaml"] {
        std::fs::copy(case(name), before.join(name)).expect("copied");
    }
    let before = before.display().to_string();
    let lose = |arguments: &[&str]| {
        let command = [
            "plan",
            "--against",
            &before,
            "--lose",
            "node-a",
            "-o",
            "json",
        ];
        let answer = ferrolb(&[&command[..], arguments].concat());
        let difference: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
        difference["lost"].clone()
    };
    assert_eq!(lose(&[])[0], "default/contested");
    let nothing = Value::Array(Vec::new());
    assert_eq!(lose(&["--lb-class", "example.com/no-service"]), nothing);
}
