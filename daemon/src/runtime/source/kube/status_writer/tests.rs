use tokio::net::TcpListener;

use super::*;
use crate::runtime::source::status_writes;

fn decided(service: &str, version: &str) -> Arc<StatusWrite> {
    Arc::new(StatusWrite {
        service: Arc::new(ObjectName::new("shop", service)),
        resource_version: version.into(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ip_modes: Vec::new(),
        pool: Some("blue".into()),
    })
}

#[test]
fn the_newest_write_of_a_service_replaces_others_and_waits_for_the_one_in_flight() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(decided("web", "1"));
    queue.push(decided("web", "2"));
    let first = queue.pop(now).unwrap();
    assert_eq!(first.write.resource_version, "2");
    queue.push(decided("web", "3"));
    queue.push(decided("zoo", "9"));
    assert_eq!(queue.pop(now).unwrap().write.service.name, "zoo");
    assert!(queue.pop(now).is_none());
    // The failed one is not retried: there is a newer one.
    queue.complete(now, first, Outcome::Failed);
    assert_eq!(queue.pop(now).unwrap().write.resource_version, "3");
}

#[test]
fn failed_writes_are_retried_with_backoff_and_obsolete_ones_dropped() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(decided("web", "1"));
    let mut waits = Vec::new();
    let mut at = now;
    for _ in 0..8 {
        let write = queue.pop(at).unwrap();
        queue.complete(at, write, Outcome::Failed);
        assert!(queue.pop(at).is_none());
        let next = queue.poll_timeout().unwrap();
        waits.push(next - at);
        at = next;
    }
    assert_eq!(waits[..2], [backoff::FIRST, backoff::FIRST * 2]);
    assert_eq!(waits[7], backoff::MAX);
    let write = queue.pop(at).unwrap();
    queue.complete(at, write, Outcome::Obsolete);
    assert!(queue.pop(at).is_none() && queue.poll_timeout().is_none());
}

#[test]
fn the_number_of_writes_in_flight_is_limited() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for index in 0..=MAX_IN_FLIGHT {
        queue.push(decided(&format!("web-{index}"), "1"));
    }
    let in_flight: Vec<PendingWrite> = std::iter::from_fn(|| queue.pop(now)).collect();
    assert_eq!(in_flight.len(), MAX_IN_FLIGHT);
    for write in in_flight {
        queue.complete(now, write, Outcome::Done);
    }
    assert!(queue.pop(now).is_some());
}

#[test]
fn a_write_ends_before_the_lease_does() {
    let now = Instant::now();
    assert_eq!(deadline(now, None), None);
    assert_eq!(deadline(now, Some(now)), None);
    assert_eq!(deadline(now + Duration::from_secs(60), Some(now)), None);
    let soon = now + Duration::from_secs(1);
    assert_eq!(deadline(now, Some(soon)), Some(soon));
    let late = now + MAX_WRITE_TIME * 10;
    assert_eq!(deadline(now, Some(late)), Some(now + MAX_WRITE_TIME));
}

#[test]
fn no_retry_is_scheduled_shortly_before_the_lease_ends() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(decided("web", "1"));
    let write = queue.pop(now).unwrap();
    queue.complete(now, write, Outcome::Failed);
    let due = queue.poll_timeout();
    let at = now + backoff::FIRST;
    assert_eq!(due, Some(at));
    assert_eq!(next_retry(now, due, Some(at + MIN_WRITE_TIME)), due);
    let too_late = at + MIN_WRITE_TIME - Duration::from_millis(1);
    assert_eq!(next_retry(now, due, Some(too_late)), None);
    // Due while a write could start, but that time is over.
    let later = at + Duration::from_millis(50);
    assert_eq!(next_retry(later, due, Some(later + MIN_WRITE_TIME)), due);
    assert_eq!(next_retry(later, due, Some(at + MIN_WRITE_TIME)), None);
    assert_eq!(next_retry(now, due, None), None);
}

#[test]
fn a_patch_names_the_version_and_clears_unwanted_fields() {
    assert_eq!(
        patch(&decided("web", "42")),
        json!({
            "metadata": {"resourceVersion": "42", "annotations": {ALLOCATED_ANNOTATION: "blue"}},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]}},
        })
    );
    let proxy = StatusWrite {
        ip_modes: vec![("2001:db8::1".parse().unwrap(), "Proxy".into())],
        ..StatusWrite::clone(&decided("web", "42"))
    };
    assert_eq!(
        patch(&proxy)["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "192.0.2.1"}, {"ip": "2001:db8::1", "ipMode": "Proxy"}]),
        "ipMode stays as it is"
    );
    let cleared = StatusWrite {
        addresses: Vec::new(),
        pool: None,
        ..StatusWrite::clone(&decided("web", "42"))
    };
    let patch = patch(&cleared);
    assert_eq!(patch["status"]["loadBalancer"], json!({"ingress": null}));
    assert_eq!(
        patch["metadata"]["annotations"],
        json!({ALLOCATED_ANNOTATION: null})
    );
}

#[tokio::test]
async fn no_write_is_lost_that_arrives_together_with_its_term() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Of two events that are ready, the loop takes one at random.
    for _ in 0..32 {
        let config = kube::Config::new(url.parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let until = Some(Instant::now() + Duration::from_secs(60));
        let (_lead, lead) = watch::channel(Lead { term: 1, until });
        let (new_term, term) = watch::channel(None);
        let (sender, receiver) = status_writes();
        let writer = tokio::spawn(write_all(client, lead, term, receiver));
        tokio::task::yield_now().await;
        new_term.send_replace(Some(1));
        sender.send(decided("web", "1")).unwrap();
        let request = tokio::time::timeout(Duration::from_secs(20), listener.accept());
        request.await.expect("the write is sent").unwrap();
        writer.abort();
    }
}
