//! Asks the service proxy over HTTP: once per second until it is ready, and for services with
//! externalTrafficPolicy Local on their healthCheckNodePort.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::health_url::HealthUrl;
use super::services::{LIMIT, NewDelay};
use crate::core::api::ObjectName;

/// Interval between two questions about the proxy itself.
const PROXY_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between two questions about a service.
const SERVICE_INTERVAL: Duration = Duration::from_millis(250);
/// Limit for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// This many services are asked about at a time.
const CONCURRENT: usize = 16;
/// More of an answer is not read.
const MAX_ANSWER: u64 = 16 * 1024;
/// This many characters of a body are quoted.
const QUOTED: usize = 120;

/// An answer of the service proxy. An error says why it is not ready.
#[derive(Debug)]
pub(crate) enum Answer {
    /// About itself.
    Proxy(Result<(), String>),
    /// About the endpoints of a service on this node.
    Service(ObjectName, Result<(), String>),
}

/// Starts questions. The answers arrive in the order in which they come.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    answers: mpsc::UnboundedSender<Answer>,
    concurrent: Arc<Semaphore>,
}

impl Prober {
    /// A prober that has not asked yet, and what receives its answers.
    pub(crate) fn start() -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (answers, received) = mpsc::unbounded_channel();
        let concurrent = Arc::new(Semaphore::new(CONCURRENT));
        let prober = Self {
            answers,
            concurrent,
        };
        (prober, received)
    }

    /// Asks the proxy until it is ready.
    pub(crate) fn ask_proxy(&self, url: HealthUrl) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            loop {
                let answer = proxy_is_ready(&url).await;
                let ready = answer.is_ok();
                if answers.send(Answer::Proxy(answer)).is_err() || ready {
                    return;
                }
                sleep(PROXY_INTERVAL).await;
            }
        });
    }

    /// Asks about a service until it is ready or has waited for long enough.
    pub(crate) fn ask_service(&self, delay: NewDelay, node_ips: Vec<IpAddr>) {
        let prober = self.clone();
        let NewDelay { service, port } = delay;
        tokio::spawn(async move {
            let end = Instant::now() + LIMIT;
            while Instant::now() < end {
                let Ok(permit) = prober.concurrent.acquire().await else {
                    return;
                };
                let answer = service_is_ready(&node_ips, port).await;
                drop(permit);
                let ready = answer.is_ok();
                let answer = Answer::Service(service.clone(), answer);
                if prober.answers.send(answer).is_err() || ready {
                    return;
                }
                sleep(SERVICE_INTERVAL).await;
            }
        });
    }
}

async fn proxy_is_ready(url: &HealthUrl) -> Result<(), String> {
    let (status, body) = get(url).await?;
    is_ready(status, &body)
}

/// Asks at the addresses of the node, and at loopback: kube-proxy may serve node ports on only one
/// of them (`--nodeport-addresses`).
async fn service_is_ready(node_ips: &[IpAddr], port: u16) -> Result<(), String> {
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mut first = None;
    for address in node_ips.iter().copied().chain(loopback) {
        let answer = match get(&HealthUrl::of_service(address, port)).await {
            Ok((200, _)) => return Ok(()),
            // An answer is that of all addresses.
            Ok((status, body)) => return Err(refusal(status, &body)),
            Err(error) => error,
        };
        first.get_or_insert(answer);
    }
    Err(first.unwrap_or_default())
}

/// The part of kube-proxy's answer that gives the reason of a 503.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProxyAnswer {
    /// False while the Node is being deleted.
    node_eligible: Option<bool>,
    /// Whether the rules of the proxy are up to date, apart from the Node. Older versions don't
    /// say.
    healthy: Option<bool>,
}

/// Whether an answer means that the proxy delivers. kube-proxy's /healthz is 503 also while the
/// Node is being deleted, which says nothing about the proxy. Older versions don't say whether the
/// proxy is late as well. It then counts as ready, since a Node can be in deletion for long.
fn is_ready(status: u16, body: &str) -> Result<(), String> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let answer: ProxyAnswer = serde_json::from_str(body).unwrap_or_default();
    if answer.node_eligible == Some(false) && answer.healthy != Some(false) {
        return Ok(());
    }
    Err(refusal(status, body))
}

fn refusal(status: u16, body: &str) -> String {
    let one_line: Vec<&str> = body.split_whitespace().collect();
    let quoted: String = one_line.join(" ").chars().take(QUOTED).collect();
    format!("answers {status} {quoted}").trim_end().to_owned()
}

async fn get(url: &HealthUrl) -> Result<(u16, String), String> {
    match timeout(TIMEOUT, exchange(url)).await {
        Ok(Ok(octets)) => parse(&String::from_utf8_lossy(&octets)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

/// HTTP/1.0, so that the server ends the answer by closing the connection.
async fn exchange(url: &HealthUrl) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(url.authority()).await?;
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
        url.path(),
        url.authority()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut octets = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut octets).await?;
    Ok(octets)
}

/// The status and the body of an answer.
fn parse(answer: &str) -> Result<(u16, String), String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut words = head.split_whitespace();
    let version = words
        .next()
        .filter(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse().ok());
    match version.and(status) {
        Some(status) => Ok((status, body.to_owned())),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_503_because_the_node_is_deleted_does_not_mean_that_the_proxy_is_not_ready() {
        // As kube-proxy 1.34 answers to /healthz.
        let answer = |eligible: bool, healthy: bool| {
            let updated = "2026-01-01T00:00:00.123456789Z";
            let family = format!(r#"{{"lastUpdated":"{updated}","healthy":{healthy}}}"#);
            format!(
                r#"{{"lastUpdated":"{updated}","currentTime":"2026-01-02T00:00:00.5Z",
                "nodeEligible":{eligible},"healthy":{healthy},
                "status":{{"IPv4":{family},"IPv6":{family}}}}}"#
            )
        };
        assert_eq!(is_ready(503, &answer(false, true)), Ok(()));
        let error = is_ready(503, &answer(true, false)).expect_err("late");
        assert!(error.starts_with("answers 503 {"), "{error}");
        assert!(
            is_ready(503, &answer(false, false)).is_err(),
            "late as well"
        );
        // As older versions answer.
        let times = r#""lastUpdated": "2026-01-01","currentTime": "2026-01-02""#;
        let deleted = format!(r#"{{{times}, "nodeEligible": false}}"#);
        assert_eq!(is_ready(503, &deleted), Ok(()));
        let late = format!(r#"{{{times}, "nodeEligible": true}}"#);
        assert!(is_ready(503, &late).is_err());
        assert_eq!(is_ready(200, "ok"), Ok(()));
        assert_eq!(is_ready(404, ""), Err("answers 404".to_owned()));
    }

    #[test]
    fn an_answer_that_is_not_http_is_an_error() {
        let answer = "HTTP/1.0 200 OK\r\nX: y\r\n\r\nbody";
        assert_eq!(parse(answer), Ok((200, "body".to_owned())));
        for answer in ["", "SSH-2.0-x\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            assert!(parse(answer).is_err(), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn the_proxy_is_asked_until_it_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 1024];
                let octets = stream.read(&mut request).await.expect("a request");
                let request = String::from_utf8_lossy(&request[..octets]).into_owned();
                assert!(request.starts_with("GET /livez HTTP/1.0\r\n"), "{request}");
                let answer = format!("HTTP/1.0 {status}\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("room");
            }
        });
        let (prober, mut answers) = Prober::start();
        let url = format!("http://{address}/livez").parse().expect("a URL");
        prober.ask_proxy(url);
        let first = answers.recv().await;
        assert!(
            matches!(&first, Some(Answer::Proxy(Err(why))) if why.starts_with("answers 503")),
            "{first:?}"
        );
        assert!(matches!(answers.recv().await, Some(Answer::Proxy(Ok(())))));
        drop(prober);
        assert!(answers.recv().await.is_none(), "a ready proxy is not asked");
    }
}
