use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const PATH: &str = "/apis/apps/v1/namespaces/metallb-system/daemonsets/ferrolb-announcer";

#[derive(Clone, Copy)]
enum Question {
    Found,
    Gone,
}

/// The result for an answer of the API server.
async fn request(status: StatusCode, body: Value, question: Question) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    );
    let router = Router::new().route(PATH, get(async move || answer));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let answer = ask(&address.to_string(), question).await;
    server.abort();
    answer
}

async fn ask(address: &str, question: Question) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("config");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }]
    });
    std::fs::write(&kubeconfig, text.to_string()).expect("written");
    let daemonset = OwnDaemonSet {
        kubeconfig: Some(kubeconfig),
        namespace: "metallb-system".into(),
        name: "ferrolb-announcer".into(),
    };
    match question {
        Question::Found => daemonset.wait_until_found().await,
        Question::Gone => daemonset.is_gone().await,
    }
}

fn daemonset(metadata: Value) -> Value {
    json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata })
}

fn failure(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "message": "no", "code": code, "reason": reason,
    })
}

#[tokio::test]
async fn a_daemonset_is_gone_if_it_is_being_deleted_or_not_found() {
    let there = daemonset(json!({ "name": "ferrolb-announcer" }));
    assert!(!request(StatusCode::OK, there, Question::Gone).await);
    let going = json!({ "name": "ferrolb-announcer", "deletionTimestamp": "2026-01-01T00:00:00Z" });
    assert!(request(StatusCode::OK, daemonset(going), Question::Gone).await);
    assert!(
        request(
            StatusCode::NOT_FOUND,
            failure(404, "NotFound"),
            Question::Gone
        )
        .await
    );
}

#[tokio::test]
async fn without_an_answer_a_restart_is_assumed() {
    assert!(
        !request(
            StatusCode::FORBIDDEN,
            failure(403, "Forbidden"),
            Question::Gone
        )
        .await
    );
    assert!(!ask("127.0.0.1:1", Question::Gone).await);
}

#[tokio::test]
async fn a_daemonset_that_never_existed_is_not_found() {
    let there = daemonset(json!({ "name": "ferrolb-announcer" }));
    assert!(request(StatusCode::OK, there, Question::Found).await);
    let missing = failure(404, "NotFound");
    assert!(!request(StatusCode::NOT_FOUND, missing, Question::Found).await);
}
