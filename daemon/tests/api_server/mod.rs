//! An API server that answers lists, for tests of commands: `mod api_server;`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What it answers, by the path without the query: items of a list, or a status.
pub(crate) type Answers = BTreeMap<String, Result<Vec<Value>, u16>>;

/// A running server, and the requests so far: method and path with the query.
pub(crate) struct ApiServer {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ApiServer {
    /// Starts it. Lists that are not among the answers are empty.
    pub(crate) fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::default();
        let (answers, received) = (Arc::new(answers), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, received) = (Arc::clone(&answers), Arc::clone(&received));
                thread::spawn(move || serve(stream, &answers, &received));
            }
        });
        Self { port, requests }
    }

    /// A kubeconfig for it.
    pub(crate) fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1
kind: Config
current-context: a
clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{}'}}}}]
contexts: [{{name: a, context: {{cluster: a, user: a}}}}]
users: [{{name: a, user: {{}}}}]
",
            self.port
        )
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// Answers the requests of a connection until it is closed.
fn serve(mut stream: TcpStream, answers: &Answers, received: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
    while let Some(Ok(first)) = lines.next() {
        // None of the requests has a body.
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let mut words = first.split(' ');
        let (method, uri) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        received
            .lock()
            .expect("no panic")
            .push(format!("{method} {uri}"));
        let path = uri.split('?').next().unwrap_or(uri);
        let (status, body) = match answers.get(path) {
            Some(Err(code)) => (*code, refusal(*code, path)),
            Some(Ok(items)) => (200, list(path, items)),
            None => (200, list(path, &[])),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn list(path: &str, items: &[Value]) -> Value {
    let kind = items
        .first()
        .map_or(&json!("Object"), |item| &item["kind"])
        .clone();
    let kind = format!("{}List", kind.as_str().unwrap_or_default());
    let parts: Vec<&str> = path.split('/').collect();
    let version = match parts[..] {
        ["", "api", version, ..] => version.to_owned(),
        ["", "apis", group, version, ..] => format!("{group}/{version}"),
        _ => String::new(),
    };
    json!({ "apiVersion": version, "kind": kind, "metadata": {}, "items": items })
}

fn refusal(code: u16, path: &str) -> Value {
    let resource = path.rsplit('/').next().unwrap_or_default();
    let (reason, message) = match code {
        403 => (
            "Forbidden",
            format!("User \"u\" cannot list resource \"{resource}\" at the cluster scope"),
        ),
        _ => (
            "NotFound",
            "the server could not find the requested resource".to_owned(),
        ),
    };
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {},
        "reason": reason, "message": message, "code": code,
    })
}
