//! `ferrolb status`, `pools`, `peers`, `routes` and `l2` about manifests, and which of them ask the
//! daemon on this host.

mod program;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use program::{ferrolb, folder_of, stdout};
use serde_json::Value;

fn objects() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status");
    folder.join("objects.yaml").display().to_string()
}

fn about(command: &str, output: &str) -> Output {
    ferrolb(&[command, "-f", &objects(), "-o", output])
}

fn json(command: &str) -> Value {
    serde_json::from_slice(&about(command, "json").stdout).expect("JSON")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_exit_code_says_whether_something_is_wrong() {
    let fine = about("status", "table");
    let text = stdout(&fine);
    assert_eq!(fine.status.code(), Some(0), "{text}");
    assert!(
        text.starts_with("nothing is wrong; 0 warnings; 3 of 3"),
        "{text}"
    );
    let bad = std::fs::read_to_string(objects()).expect("a file");
    let bad = folder_of("bad.yaml", &bad.replace("192.0.2.0/28", "192.0.2.0/33"));
    let wrong = ferrolb(&["status", "-f", bad.path().to_str().expect("text")]);
    let text = stdout(&wrong);
    assert_eq!(wrong.status.code(), Some(3), "{text}");
    assert!(text.contains("InvalidObject"), "{text}");
    let unread = std::fs::read_to_string(objects()).expect("a file") + "---\n{";
    let unread = folder_of("unread.yaml", &unread);
    let incomplete = ferrolb(&["status", "-f", unread.path().to_str().expect("text")]);
    assert_eq!(incomplete.status.code(), Some(4), "{}", stdout(&incomplete));
    assert!(stderr(&incomplete).contains("can't see"), "{incomplete:?}");
    let nothing = ferrolb(&["status", "-f", "/nonexistent"]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    assert_eq!(ferrolb(&["status", "--never"]).status.code(), Some(2));
    let help = stdout(&ferrolb(&["status", "--help"]));
    assert!(help.contains("3  something is wrong"), "{help}");
}

#[test]
fn an_api_server_that_does_not_answer_is_named() {
    let kubeconfig = "
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
users: [{name: a, user: {}}]
";
    let folder = folder_of("config", kubeconfig);
    let path = folder.path().join("config").display().to_string();
    for command in ["status", "pools", "peers", "routes", "l2"] {
        let answer = ferrolb(&[command, "--kubeconfig", &path, "--context", "a"]);
        assert_eq!(answer.status.code(), Some(1), "{command}");
        let error = stderr(&answer);
        assert!(
            error.contains("can't read the cluster"),
            "{command}: {error}"
        );
    }
    let answer = ferrolb(&["status", "--kubeconfig", &path, "--context", "b"]);
    assert_eq!(answer.status.code(), Some(1));
    let error = stderr(&answer);
    assert!(
        error.contains("kubeconfig") && error.contains('b'),
        "{error}"
    );
}

#[test]
fn manifests_have_pools_sessions_routes_and_candidates() {
    let pools = json("pools");
    assert_eq!(pools[1]["pool"], "public");
    assert_eq!(pools[1]["used"], 2);
    let peers = json("peers");
    assert_eq!(peers.as_array().map(Vec::len), Some(2));
    assert_eq!(peers[0]["prefixesExpected"], 2);
    let routes = json("routes");
    assert_eq!(routes.as_array().map(Vec::len), Some(4));
    assert_eq!(routes[0]["sent"], "unknown");
    let other = ferrolb(&["routes", "-f", &objects(), "--peer", "other", "-o", "json"]);
    assert_eq!(stdout(&other), "[]\n");
    let layer2 = json("l2");
    assert_eq!(layer2[0]["address"], "198.51.100.1");
    for command in ["status", "pools", "peers", "routes", "l2"] {
        for output in ["table", "json"] {
            let answer = about(command, output);
            let printed = stdout(&answer) + &stderr(&answer);
            assert!(!printed.contains("hunter2"), "{command}: {printed}");
        }
    }
}

#[test]
fn without_a_daemon_the_error_proposes_the_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("none").display().to_string();
    for command in ["peers", "routes", "l2"] {
        let answer = ferrolb(&[command, "--socket", &socket]);
        assert_eq!(answer.status.code(), Some(1));
        let error = stderr(&answer);
        let proposal = format!("kubectl ferrolb {command}");
        assert!(error.contains(&proposal), "{error}");
        // The socket means a daemon, also for the plugin of kubectl.
        let plugin = folder.path().join("kubectl-ferrolb");
        if !plugin.exists() {
            symlink(env!("CARGO_BIN_EXE_ferrolb"), &plugin).expect("a link");
        }
        let run = |arguments: &[&str]| {
            let mut program = Command::new(&plugin);
            program.args(arguments).env("KUBECONFIG", &socket);
            program.env_remove("KUBERNETES_SERVICE_HOST");
            program.output().expect("the program starts")
        };
        let error = stderr(&run(&[command, "--socket", &socket]));
        assert!(error.contains("no ferrolb daemon"), "{error}");
        let error = stderr(&run(&[command]));
        assert!(error.contains("kubeconfig"), "{error}");
        let help = stdout(&run(&[command, "--help"]));
        assert!(help.contains("Usage: kubectl ferrolb"), "{help}");
    }
    let watched = ferrolb(&["routes", "-w", "--socket", &socket]);
    assert!(stderr(&watched).contains("can't be watched"), "{watched:?}");
}
