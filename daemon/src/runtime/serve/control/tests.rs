use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use ferrolb_bgp::config::{PeerConfig, Remote};
use ferrolb_bgp::fsm::{PeerDetail, PeerRoutes};
use ferrolb_bgp::rib::Route;
use ferrolb_bgp::speaker::{self, Handle, SpeakerOptions};
use ferrolb_bgp::wire::Asn;
use tokio::sync::watch;

use super::client::{AskError, Client};
use super::server::{BindError, ControlService, Socket};
use super::*;
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::{Problem, Severity};
use crate::runtime::questions::questions;
use crate::runtime::status::DaemonStatus;

/// Data sources with two peers at one address, where no router listens.
async fn answering(path: &Path) -> Handle {
    let (engine, _) = speaker::spawn(SpeakerOptions::default()).expect("an engine");
    for (name, asn) in [("tor-a", 64513), ("tor-b", 64514)] {
        let address = "127.0.0.1:1".parse().expect("an address");
        let config = PeerConfig::new(name, address, Asn(64512), Asn(asn));
        engine.set_peer(config).expect("a good peer");
    }
    let mut status = DaemonStatus::new();
    status.routes.insert("tor-a".into(), 7);
    status.rejected_peers.push(Problem {
        object: ObjectKey::new(Kind::BgpPeer, ObjectName::new("metallb-system", "tor-x")),
        severity: Severity::Error,
        message: "spec.holdTime: is short".into(),
    });
    serve(path, engine.clone(), status);
    engine
}

fn serve(path: &Path, engine: Handle, status: DaemonStatus) {
    let (_, status) = watch::channel(Arc::new(status));
    let service = ControlService {
        engine: Some(engine),
        layer2: None,
        status,
        asker: questions().0,
        node: "node-a".to_owned(),
    };
    tokio::spawn(Socket::bind(path).expect("a socket").serve(service));
}

async fn ask<T: serde::de::DeserializeOwned + Send + 'static>(
    path: &Path,
    request: Request,
) -> Result<T, AskError> {
    let path = path.to_owned();
    let service = tokio::task::spawn_blocking(move || Client::connect(&path)?.ask(&request));
    service.await.expect("no panic")
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, AskError>) -> String {
    answer.expect_err("a refusal").to_string()
}

#[tokio::test]
async fn requests_are_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sub/ferrolb.sock");
    let _engine = answering(&path).await;
    let mode = std::fs::metadata(&path)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let peers: Vec<PeerLine> = ask(&path, Request::Peers).await.expect("an answer");
    let advertised: Vec<(&str, usize)> = peers
        .iter()
        .map(|peer| (peer.status.name.as_str(), peer.prefixes_desired))
        .collect();
    assert_eq!(advertised, [("tor-a", 7), ("tor-b", 0)]);
    let by = |peer: &str| Request::Peer { peer: peer.into() };
    let detail: PeerDetail = ask(&path, by("tor-b")).await.expect("an answer");
    assert_eq!(detail.config.remote_asn, Asn(64514).into());
    let log = Request::Log {
        peer: Some("tor-a".into()),
    };
    let log: Vec<LogLine> = ask(&path, log).await.expect("an answer");
    assert!(
        !log.is_empty() && log.iter().all(|line| line.peer == "tor-a"),
        "{log:?}"
    );
    let routes: Option<RouteLine> = ask(&path, Request::Routes { peer: None })
        .await
        .expect("an answer");
    assert_eq!(routes, None);
    let refused: Vec<RejectedPeer> = ask(&path, Request::Refused).await.expect("an answer");
    assert_eq!(refused[0].object, "BGPPeer metallb-system/tor-x");
}

/// Events of dynamic neighbors are found by the name of their `peerNetwork`, which has a page of
/// its own.
#[tokio::test]
async fn a_peer_network_selects_its_dynamic_neighbors() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let (engine, _) = speaker::spawn(SpeakerOptions {
        listen: vec!["127.0.0.14:0".parse().expect("an address")],
        ..SpeakerOptions::default()
    })
    .expect("an engine");
    let unused = "127.0.0.15:179".parse().expect("an address");
    let mut rack = PeerConfig::new("rack", unused, Asn(64512), Asn(64513));
    rack.remote = Remote::Network("127.0.0.15/32".parse().expect("a network"));
    engine.set_peer(rack).expect("a good peer");
    let (router, _) = speaker::spawn(SpeakerOptions::default()).expect("a router");
    let mut us = PeerConfig::new("us", engine.local_addresses()[0], Asn(64513), Asn(64512));
    us.transport.source_address = "127.0.0.15".parse().ok();
    router.set_peer(us).expect("a good peer");
    serve(&path, engine.clone(), DaemonStatus::new());
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while engine.snapshot().await.len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "no connection");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let log = Request::Log {
        peer: Some("rack".into()),
    };
    let log: Vec<LogLine> = ask(&path, log).await.expect("an answer");
    for name in ["rack", "rack@127.0.0.15"] {
        assert!(log.iter().any(|line| line.peer == name), "{name}: {log:?}");
    }
    let by = |peer: &str| Request::Peer { peer: peer.into() };
    let template: PeerDetail = ask(&path, by("rack")).await.expect("an answer");
    assert_eq!(template.status.name, "rack");
    let neighbour: PeerDetail = ask(&path, by("127.0.0.15")).await.expect("an answer");
    assert_eq!(neighbour.status.remote.to_string(), "127.0.0.15");
}

/// Two peers with far more routes than a chunk: each is sent once, in order.
#[tokio::test]
async fn routes_are_sent_one_by_one_and_in_order() {
    const ROUTES: u32 = 3000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let mut routers = Vec::new();
    let engine = answering(&path).await;
    for (name, address) in [("rtr-a", "127.0.0.11:0"), ("rtr-b", "127.0.0.12:0")] {
        let (router, _) = speaker::spawn(SpeakerOptions {
            listen: vec![address.parse().expect("an address")],
            ..SpeakerOptions::default()
        })
        .expect("a router");
        let mut us = PeerConfig::new(
            "us",
            "127.0.0.13:179".parse().expect("an address"),
            Asn(64513),
            Asn(64512),
        );
        us.transport.passive = true;
        router.set_peer(us).expect("a good peer");
        router.open_gate();
        let mut peer = PeerConfig::new(name, router.local_addresses()[0], Asn(64512), Asn(64513));
        peer.transport.source_address = "127.0.0.13".parse().ok();
        peer.router_id = Some([127, 0, 0, 13].into());
        engine.set_peer(peer).expect("a good peer");
        let changes = (0..ROUTES).rev().map(|number| {
            let prefix = IpNet::from(IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
            (prefix, Some(Route::default()))
        });
        engine.routes(vec![PeerRoutes {
            peer: name.to_owned(),
            changes: changes.collect(),
        }]);
        routers.push(router);
    }
    engine.open_gate();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while engine
        .snapshot()
        .await
        .iter()
        .map(|peer| peer.prefixes_advertised)
        .sum::<u64>()
        < u64::from(2 * ROUTES)
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?}",
            engine.snapshot().await
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let service = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&path)?;
        client.send(&Request::Routes { peer: None })?;
        let mut routes: Vec<RouteLine> = Vec::new();
        while let Some(route) = client.receive()? {
            routes.push(route);
        }
        // The connection accepts further requests.
        let peers: Vec<PeerLine> = client.ask(&Request::Peers)?;
        Ok::<_, AskError>((routes, peers))
    });
    let (routes, peers) = service.await.expect("no panic").expect("answers");
    assert_eq!(peers.len(), 4);
    assert_eq!(routes.len(), 2 * ROUTES as usize);
    assert!(routes.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(routes[0].peer, "rtr-a");
    assert_eq!(routes[0].prefix.to_string(), "10.0.0.0/32");
}

#[tokio::test]
async fn errors_name_what_can_be_requested() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let _engine = answering(&path).await;
    let by = |peer: &str| Request::Peer { peer: peer.into() };
    assert_eq!(
        refusal(ask::<PeerDetail>(&path, by("tor-c")).await),
        "no peer tor-c; known peers: tor-a (127.0.0.1:1), tor-b (127.0.0.1:1)"
    );
    assert_eq!(
        refusal(ask::<PeerDetail>(&path, by("tor-x")).await),
        "BGPPeer metallb-system/tor-x is rejected: spec.holdTime: is short"
    );
    assert_eq!(
        refusal(ask::<PeerDetail>(&path, by("127.0.0.1")).await),
        "127.0.0.1 is the address of several peers: select one by name: tor-a, tor-b"
    );
    let socket = path.clone();
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::{BufRead, Write};
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        (&stream).write_all(b"nonsense\n")?;
        let mut line = String::new();
        std::io::BufReader::new(stream).read_line(&mut line)?;
        std::io::Result::Ok(line)
    });
    let answer = answer.await.expect("no panic").expect("an answer");
    assert!(
        answer.contains("invalid request") && answer.contains("command"),
        "{answer}"
    );
}

/// Answers of a daemon of another version, and of one that ends within an answer.
#[test]
fn an_unexpected_answer_names_the_remedy() {
    use std::io::{BufRead, Write};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let answers = ["{\"ok\":[{\"name\":7}]}\n", "{\"ok\":[{\"na"];
    let daemon = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut question = String::new();
            let read = std::io::BufReader::new(&stream).read_line(&mut question);
            assert!(read.is_ok_and(|octets| octets > 0));
            stream.write_all(answer.as_bytes()).expect("written");
        }
    });
    let mut said = answers.map(|_| {
        let mut client = Client::connect(&path).expect("a daemon");
        refusal(client.ask::<Vec<PeerLine>>(&Request::Peers))
    });
    daemon.join().expect("no panic");
    said.sort();
    assert!(
        said[0].contains("did not answer") && said[0].contains("log"),
        "{said:?}"
    );
    assert!(said[1].contains("unexpected reply"), "{said:?}");
}

#[tokio::test]
async fn a_live_socket_is_kept_and_a_stale_one_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    assert!(refusal(Client::connect(&path)).contains("ferrolb run"));
    // A killed process leaves a socket without a listener.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(refusal(Client::connect(&path)).contains("no ferrolb daemon listens"));
    let socket = Socket::bind(&path).expect("the dead one is replaced");
    let second = Socket::bind(&path).expect_err("it is in use");
    assert!(matches!(second, BindError::InUse { .. }) && second.to_string().contains("--socket"));
    drop(socket);
    assert!(!path.exists());
    let nowhere = Socket::bind(Path::new("/proc/nowhere/ferrolb.sock"));
    assert!(
        nowhere
            .expect_err("no such place")
            .to_string()
            .contains("/proc/nowhere/ferrolb.sock")
    );
}

#[tokio::test]
async fn stale_files_are_removed_by_the_next_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let bound = |name: &str| {
        let path = folder.path().join(name);
        (
            std::os::unix::net::UnixListener::bind(&path).expect("a socket"),
            path,
        )
    };
    let (dead, left_over) = bound("ferrolb.new.4711");
    drop(dead);
    let (_living, starting) = bound("ferrolb.new.4712");
    let (dead, another) = bound("another.new.4711");
    drop(dead);
    let _socket = Socket::bind(&folder.path().join("ferrolb.sock")).expect("a socket");
    assert!(!left_over.exists() && starting.exists() && another.exists());
}

#[tokio::test]
async fn one_of_several_starting_daemons_gets_the_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let runtime = tokio::runtime::Handle::current();
    for round in 0..50 {
        // There is a stale socket, which each of them would replace.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let barrier = std::sync::Barrier::new(4);
        let bind = || {
            let _runtime = runtime.enter();
            barrier.wait();
            Socket::bind(&path)
        };
        let bound = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            let results = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            results.collect::<Vec<_>>()
        });
        let (good, refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
        assert_eq!(good.len(), 1, "round {round}");
        let in_use =
            |result: &Result<Socket, BindError>| matches!(result, Err(BindError::InUse { .. }));
        assert!(refused.iter().all(in_use), "round {round}: {refused:?}");
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(good);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_daemon_does_not_remove_the_socket_of_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let first = Socket::bind(&path).expect("a socket");
    std::fs::remove_file(&path).expect("the file of the first");
    let second = Socket::bind(&path).expect("nothing is there");
    drop(first);
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_probe_of_a_process_without_bgp_is_answered_with_the_reason_of_its_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let (_, status) = watch::channel(Arc::new(DaemonStatus::new()));
    let service = ControlService {
        engine: None,
        layer2: None,
        status,
        asker: questions().0,
        node: "node-a".to_owned(),
    };
    tokio::spawn(Socket::bind(&path).expect("a socket").serve(service));
    let probe = |probe| Request::Probe { probe };
    let live = ask::<()>(&path, probe(Probe::Live)).await;
    assert!(live.is_ok(), "{live:?}");
    let ready = refusal(ask::<()>(&path, probe(Probe::Ready)).await);
    assert_eq!(ready, "the configuration is not loaded yet");
}

#[tokio::test]
async fn layer_2_requests_report_why_there_is_no_engine() {
    use crate::runtime::announce::layer2::engine::{EngineState, Layer2Engine};
    use layer2::{Layer2Status, MoveStarted};

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let (state, engine) = Layer2Engine::new();
    let (_, status) = watch::channel(Arc::new(DaemonStatus::new()));
    let service = ControlService {
        engine: None,
        layer2: Some(engine),
        status,
        asker: questions().0,
        node: "node-a".to_owned(),
    };
    tokio::spawn(Socket::bind(&path).expect("a socket").serve(service));
    let all = || Request::L2 { address: None };
    let idle: Option<Layer2Status> = ask(&path, all()).await.expect("an answer");
    assert_eq!(idle, None);
    let request = Request::L2Move {
        address: "192.0.2.1".parse().expect("an address"),
        node: "node-b".into(),
    };
    let error = refusal(ask::<MoveStarted>(&path, request).await);
    assert!(error.starts_with("layer 2 is idle"), "{error}");
    state.send_replace(EngineState::Refused("NET_RAW is missing".into()));
    let error = refusal(ask::<Option<Layer2Status>>(&path, all()).await);
    assert_eq!(error, "NET_RAW is missing");
    let error = refusal(ask::<Vec<PeerLine>>(&path, Request::Peers).await);
    assert!(error.contains("no BGP sessions"), "{error}");

    let announcer = folder.path().join("announcer.sock");
    let _engine = answering(&announcer).await;
    let error = refusal(ask::<Option<Layer2Status>>(&announcer, all()).await);
    assert!(
        error.contains("ds/ferrolb-layer2 -- /ferrolb l2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_without_a_path_finds_the_first_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("a.sock"), folder.path().join("b.sock"));
    let error = refusal(Client::connect_any(&first, &[&second]).map(drop));
    assert!(error.contains("a.sock"), "{error}");
    let _engine = answering(&second).await;
    let peers = tokio::task::spawn_blocking(move || {
        Client::connect_any(&first, &[&second])?.ask::<Vec<PeerLine>>(&Request::Peers)
    });
    let peers = peers.await.expect("no panic").expect("an answer");
    assert_eq!(peers.len(), 2);
}

#[tokio::test]
async fn an_explanation_has_the_session_of_each_route_and_bad_names_are_errors() {
    use crate::core::explain::{Explanation, Stage, Step};

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferrolb.sock");
    let other = folder.path().join("other.sock");
    let engine = answering(&other).await;
    let (asker, mut asked) = questions();
    let (_, status) = watch::channel(Arc::new(DaemonStatus::new()));
    let service = ControlService {
        engine: Some(engine),
        layer2: None,
        status,
        asker,
        node: "node-a".to_owned(),
    };
    tokio::spawn(Socket::bind(&path).expect("a socket").serve(service));
    tokio::spawn(async move {
        let question = asked.next().await;
        let route = Step {
            peers: ["tor-a".to_owned()].into(),
            ..Step::ok(Stage::Bgp, "192.0.2.1/32")
        };
        let explanation = Explanation {
            subject: format!("Service {}", question.service),
            announced: true,
            summary: String::new(),
            steps: vec![route],
        };
        question
            .answer
            .send(Ok(explanation))
            .expect("the server waits");
    });
    let explain = |service: &str| Request::Explain {
        service: service.to_owned(),
    };
    let explained: Explanation = ask(&path, explain("shop/web")).await.expect("an answer");
    assert_eq!(explained.subject, "Service shop/web");
    assert!(!explained.announced, "no router listens: {explained:?}");
    let [_, session] = &explained.steps[..] else {
        panic!("{explained:?}");
    };
    assert_eq!(
        (session.stage, session.reason.as_deref()),
        (Stage::Session, Some("SessionDown"))
    );
    let error = refusal(ask::<Explanation>(&path, explain("web")).await);
    assert!(error.contains("NAMESPACE/NAME"), "{error}");
    let error = refusal(ask::<Explanation>(&path, explain("shop/web")).await);
    assert!(error.contains("has ended"), "{error}");
}
