use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::json;

use super::*;
use crate::core::allocate::Allocation;
use crate::core::api::{ObjectKey, ObjectName, RawObject};
use crate::core::config::ConfigPlaces;
use crate::core::index::Index;
use crate::core::index::change::Change;

fn lead(term: u64, leads: bool) -> Lead {
    Lead {
        term,
        until: leads.then(std::time::Instant::now),
    }
}

#[test]
fn leading_is_announced_when_everything_was_listed_in_the_term() {
    let mut leading = Leading::default();
    assert_eq!(leading.lead(lead(1, true)), (None, true));
    assert_eq!(leading.listed(0, Kind::Service), None);
    assert_eq!(leading.listed(1, Kind::Service), None);
    assert_eq!(leading.listed(1, Kind::Namespace), None);
    assert_eq!(leading.listed(1, Kind::FerrolbIpAddressPool), None);
    assert_eq!(leading.listed(1, Kind::ConfigMap), None);
    assert_eq!(leading.listed(1, Kind::AddressPool), None);
    assert_eq!(leading.allocating_term(), None);
    assert_eq!(leading.listed(1, Kind::IpAddressPool), Some(true));
    assert_eq!(leading.allocating_term(), Some(1));
    // A renewal changes nothing.
    assert_eq!(leading.lead(lead(1, true)), (None, false));
    assert_eq!(leading.lead(lead(1, false)), (Some(false), false));
    assert_eq!(leading.allocating_term(), None);
}

#[test]
fn a_new_term_requires_new_lists_even_if_the_loss_was_missed() {
    let mut leading = Leading::default();
    leading.lead(lead(1, true));
    for kind in ALLOCATED_FROM {
        leading.listed(1, kind);
    }
    assert_eq!(leading.lead(lead(2, true)), (Some(false), true));
    assert_eq!(leading.listed(1, Kind::Service), None);
    assert_eq!(leading.allocating_term(), None);
    let announced: Vec<_> = ALLOCATED_FROM
        .into_iter()
        .map(|kind| leading.listed(2, kind))
        .collect();
    assert_eq!(announced, [None, None, None, None, None, Some(true)]);
}

#[test]
fn a_term_that_ends_before_it_was_announced_is_not_announced() {
    let mut leading = Leading::default();
    leading.lead(lead(1, true));
    assert_eq!(leading.lead(lead(1, false)), (None, false));
    assert_eq!(leading.listed(1, Kind::Service), None);
}

#[test]
fn each_role_reads_only_what_it_needs() {
    let without = |role, unread: &[Kind]| {
        let read = kinds(role);
        assert!(unread.iter().all(|kind| !read.contains(kind)), "{role:?}");
        assert!(read.is_sorted_by_key(|kind| Kind::ALL.iter().position(|of_all| of_all == kind)));
        let mut others = read.iter().filter_map(|kind| kind.other_group());
        assert!(
            others.all(|other| read.contains(&other)),
            "{role:?} reads both groups"
        );
    };
    without(Role::Allocator, &[Kind::EndpointSlice]);
    without(
        Role::Announcer,
        &[Kind::L2Advertisement, Kind::FerrolbL2Advertisement],
    );
    without(
        Role::Layer2,
        &[
            Kind::BgpPeer,
            Kind::FerrolbBgpPeer,
            Kind::BfdProfile,
            Kind::BgpAdvertisement,
            Kind::Community,
            Kind::ServiceCidr,
        ],
    );
    let read = kinds(Role::Allocator);
    assert!(ALLOCATED_FROM.iter().all(|kind| read.contains(kind)));
    assert_eq!(kinds(Role::All).len(), Kind::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_panics_is_restarted() {
    let starts = std::cell::Cell::new(0);
    let follow = || {
        starts.set(starts.get() + 1);
        let first = starts.get() == 1;
        async move {
            assert!(!first, "an object that triggers a bug");
            std::future::pending::<()>().await;
        }
    };
    let followed =
        tokio::time::timeout(3 * WATCH_RESTART_DELAY, supervise(Kind::Service, follow)).await;
    assert!(followed.is_err(), "it runs forever");
    assert_eq!(starts.get(), 2);
}

#[test]
fn an_allocator_alone_needs_a_pool_and_no_object_that_announcers_need() {
    // Beside Calico or Cilium, which announce: no CRD of BGPPeers and advertisements.
    let kinds = kinds(Role::Allocator);
    let mut index = Index::for_kinds(kinds);
    let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
    let service = json!({ "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1" } });
    for kind in kinds {
        let objects = match kind {
            Kind::IpAddressPool => vec![("metallb-system", "pool", &pool)],
            Kind::Service => vec![("default", "web", &service)],
            _ => Vec::new(),
        };
        let objects = objects.into_iter().map(|(namespace, name, body)| {
            let mut body = body.clone();
            body["kind"] = json!(kind.name());
            body["metadata"]["name"] = json!(name);
            let raw: RawObject = serde_json::from_value(body).expect("an object");
            (ObjectKey::new(*kind, ObjectName::new(namespace, name)), raw)
        });
        let needed = matches!(kind, Kind::IpAddressPool | Kind::Service);
        index.apply(if kind.is_optional() && !needed {
            Change::Absent(*kind, "no such CRD".to_owned())
        } else {
            Change::Reset(*kind, objects.collect())
        });
    }
    assert_eq!(index.problems(), []);
    assert!(index.is_synced(kinds));
    let writes = Allocation::default().decide_all(&index).writes;
    let addresses: Vec<String> = writes.iter().map(|w| w.shown_addresses()).collect();
    assert_eq!(addresses, ["192.0.2.0"]);
}

/// The options of a role, with an API server at a port of this host.
fn options(role: Role, port: u16, serving: Handle) -> (KubeOptions, tempfile::NamedTempFile) {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [
            { "name": "none", "cluster": { "server": format!("http://127.0.0.1:{port}") } }
        ],
        "contexts": [{ "name": "none", "context": { "cluster": "none", "user": "none" } }],
        "users": [{ "name": "none", "user": {} }],
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), kubeconfig.to_string()).expect("written");
    let options = KubeOptions {
        kubeconfig: Some(file.path().to_owned()),
        config: ConfigPlaces::of(&["metallb-system".to_owned()]),
        role,
        identity: "test".to_owned(),
        lease_namespace: "metallb-system".to_owned(),
        own_namespace: "metallb-system".to_owned(),
        lb_class: None,
        node: "node-a".to_owned(),
        serving,
    };
    (options, file)
}

/// A process that stops waits for the source: its restart must be over within the restart time.
#[tokio::test]
async fn every_role_ends_at_once_when_it_is_stopped_even_without_an_api_server() {
    for role in [Role::Allocator, Role::Announcer, Role::Layer2, Role::All] {
        let (options, _file) = options(role, 1, Handle::current());
        let Source {
            mut events, status, ..
        } = start(options).await.expect("a source");
        tokio::task::yield_now().await;
        drop(status);
        let ended = async { while events.recv().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(7), ended).await;
        assert!(ended.is_ok(), "{role:?}");
    }
}

/// A decision about many nodes and services takes longer than the Lease lasts.
#[test]
fn the_leader_election_goes_on_while_the_control_loop_is_blocked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    let (serving, control_loop) = (runtime(), runtime());
    let (options, _file) = options(Role::Allocator, port, serving.handle().clone());
    std::thread::spawn(move || serving.block_on(std::future::pending::<()>()));
    let source = control_loop.block_on(start(options)).expect("a source");
    // From here on nothing runs on the runtime of the control loop.
    let about_the_lease = listener.incoming().flatten().find_map(|stream| {
        let mut lines = BufReader::new(&stream).lines();
        let request = lines.next()?.ok()?;
        let headers = lines
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty());
        assert!(headers.count() > 0, "{request}");
        if request.contains("/leases") {
            return Some(request);
        }
        let body = r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}"#;
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
        (&stream).write_all(answer.as_bytes()).expect("written");
        None
    });
    assert!(about_the_lease.is_some_and(|request| request.contains("ferrolb-allocator")));
    drop(source);
}
