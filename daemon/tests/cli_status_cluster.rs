//! `ferrolb status` and its neighbours about a cluster: which requests they send, and what they
//! answer if the API server refuses some.

mod api_server;
mod program;

use std::path::Path;
use std::process::{Command, Output};

use api_server::{Answers, ApiServer};
use program::{ferrolb, folder_of, stdout};
use serde_json::{Value, json};

/// The path of a list.
fn path(api_version: &str, kind: &str) -> String {
    let base = match api_version.contains('/') {
        true => format!("/apis/{api_version}"),
        false => format!("/api/{api_version}"),
    };
    let plural = format!("{}s", kind.to_lowercase());
    match api_version.split('/').next() {
        Some("metallb.io") => format!("{base}/namespaces/metallb-system/{plural}"),
        _ => format!("{base}/{plural}"),
    }
}

/// The cluster of `tests/status`, in which nothing is wrong.
fn healthy() -> Answers {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status");
    let mut answers = Answers::new();
    for file in ["objects.yaml", "observed.yaml"] {
        let text = std::fs::read_to_string(folder.join(file)).expect("a file");
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).expect("YAML");
            let version = object["apiVersion"].as_str().expect("a version");
            let path = path(version, object["kind"].as_str().expect("a kind"));
            let list = answers.entry(path).or_insert_with(|| Ok(Vec::new()));
            list.as_mut().expect("a list").push(object);
        }
    }
    answers
}

fn ask(server: &ApiServer, arguments: &[&str]) -> Output {
    let folder = folder_of("config", &server.kubeconfig());
    let kubeconfig = folder.path().join("config").display().to_string();
    ferrolb(&[arguments, &["--kubeconfig", &kubeconfig]].concat())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_kind_is_listed_once_and_no_secret() {
    let server = ApiServer::start(healthy());
    let answer = ask(&server, &["status"]);
    let text = stdout(&answer);
    assert_eq!(answer.status.code(), Some(0), "{text} {}", stderr(&answer));
    assert!(
        text.starts_with("nothing is wrong; 0 warnings; 3 of 3"),
        "{text}"
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 27, "{requests:#?}");
    let unique: std::collections::BTreeSet<&String> = requests.iter().collect();
    assert_eq!(unique.len(), 27, "{requests:#?}");
    for request in &requests {
        assert!(request.starts_with("GET /api"), "{request}");
        assert!(!request.contains("secrets"), "{request}");
    }
    for command in ["status", "pools", "peers", "routes", "l2"] {
        for output in ["table", "json"] {
            let answer = ask(&server, &[command, "-o", output]);
            assert_eq!(answer.status.code(), Some(0), "{command}");
            let printed = stdout(&answer) + &stderr(&answer);
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }
}

#[test]
fn what_the_user_may_not_read_is_named_and_the_rest_is_complete() {
    let mut answers = healthy();
    for path in ["/apis/ferrolb.io/v1alpha1/bgpsessions", "/api/v1/pods"] {
        answers.insert(path.to_owned(), Err(403));
    }
    let server = ApiServer::start(answers);
    let answer = ask(&server, &["status"]);
    assert_eq!(answer.status.code(), Some(4), "{}", stdout(&answer));
    let error = stderr(&answer);
    for expected in [
        "can't see BGPSession: User \"u\" cannot list resource \"bgpsessions\"",
        "can't see Pod: User \"u\" cannot list resource \"pods\"",
        "ClusterRole ferrolb-viewer",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    assert!(
        stdout(&answer).contains("3 of 3 services announced"),
        "{}",
        stdout(&answer)
    );
    let answer = ask(&server, &["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert_eq!(
        status["unseen"].as_array().map(Vec::len),
        Some(3),
        "{status:#}"
    );
}

#[test]
fn a_cluster_without_ferrolb_is_named() {
    let mut answers = Answers::new();
    let sessions = "/apis/ferrolb.io/v1alpha1/bgpsessions";
    answers.insert(sessions.to_owned(), Err(404));
    let server = ApiServer::start(answers);
    let answer = ask(&server, &["status"]);
    assert_eq!(answer.status.code(), Some(3));
    let text = stdout(&answer);
    assert!(
        text.contains("NotInstalled  ferrolb: no Deployment or DaemonSet"),
        "{text}"
    );
    for (command, expected) in [
        ("peers", "no sessions"),
        ("pools", "no pools"),
        ("routes", "no routes"),
        ("l2", "no address"),
    ] {
        let answer = ask(&server, &[command]);
        assert_eq!(answer.status.code(), Some(0), "{command}");
        assert!(stdout(&answer).starts_with(expected), "{answer:?}");
    }
}

/// Under the name that kubectl runs, names come from the cluster.
#[test]
fn kubectl_completes_names_of_the_cluster() {
    let mut answers = healthy();
    let services = answers.get_mut("/api/v1/services").expect("services");
    let other = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "other", "namespace": "shop"}, "spec": {"type": "ClusterIP"},
    });
    services.as_mut().expect("a list").push(other);
    let server = ApiServer::start(answers);
    let folder = folder_of("config", &server.kubeconfig());
    let program = folder.path().join("kubectl_complete-ferrolb");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ferrolb"), &program).expect("a link");
    let offered = |words: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(words)
            .env("KUBECONFIG", folder.path().join("config"));
        command.env_remove("KUBERNETES_SERVICE_HOST");
        stdout(&command.output().expect("the program starts"))
    };
    assert_eq!(
        offered(&["explain", "svc", ""]),
        "shop/api\nshop/mail\nshop/web\n:4\n"
    );
    assert_eq!(offered(&["explain", "node", "node-b"]), "node-b\n:4\n");
    assert_eq!(offered(&["routes", "--peer", ""]), "tor\n:4\n");
    assert_eq!(offered(&["explain", "pool", "p"]), "public\n:4\n");
    assert_eq!(offered(&["poo"]), "pools\n:4\n");
    let requests = server.requests();
    // Each asks for what it names only: of peers and pools in both groups.
    assert_eq!(requests.len(), 1 + 1 + 2 + 2, "{requests:#?}");
}
