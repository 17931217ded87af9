use super::*;

fn decided(service: &str, version: &str) -> Arc<StatusWrite> {
    Arc::new(StatusWrite {
        service: Arc::new(ObjectName::new("shop", service)),
        resource_version: version.into(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pool: Some("blue".into()),
    })
}

#[test]
fn the_newest_write_of_a_service_wins_and_waits_for_the_one_under_way() {
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
    // The failed one is not tried again: there is a newer one.
    queue.ended(now, first, Outcome::Failed);
    assert_eq!(queue.pop(now).unwrap().write.resource_version, "3");
}

#[test]
fn failures_are_tried_again_later_and_later_and_what_is_obsolete_is_not() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(decided("web", "1"));
    let mut waits = Vec::new();
    let mut at = now;
    for _ in 0..8 {
        let tried = queue.pop(at).unwrap();
        queue.ended(at, tried, Outcome::Failed);
        assert!(queue.pop(at).is_none());
        let next = queue.poll_timeout().unwrap();
        waits.push(next - at);
        at = next;
    }
    assert_eq!(waits[..2], [FIRST_RETRY, FIRST_RETRY * 2]);
    assert_eq!(waits[7], LAST_RETRY);
    let tried = queue.pop(at).unwrap();
    queue.ended(at, tried, Outcome::Obsolete);
    assert!(queue.pop(at).is_none() && queue.poll_timeout().is_none());
}

#[test]
fn only_so_many_writes_are_under_way() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for index in 0..=CONCURRENCY {
        queue.push(decided(&format!("web-{index}"), "1"));
    }
    let under_way: Vec<Waiting> = std::iter::from_fn(|| queue.pop(now)).collect();
    assert_eq!(under_way.len(), CONCURRENCY);
    for tried in under_way {
        queue.ended(now, tried, Outcome::Done);
    }
    assert!(queue.pop(now).is_some());
}

#[test]
fn a_write_fits_into_what_is_left_of_the_lease() {
    let now = Instant::now();
    assert_eq!(deadline(now, None), None);
    assert_eq!(deadline(now, Some(now)), None);
    assert_eq!(deadline(now + Duration::from_secs(60), Some(now)), None);
    let soon = now + Duration::from_secs(1);
    assert_eq!(deadline(now, Some(soon)), Some(soon));
    let late = now + LONGEST_WRITE * 10;
    assert_eq!(deadline(now, Some(late)), Some(now + LONGEST_WRITE));
}

#[test]
fn no_retry_is_awaited_when_too_little_of_the_lease_is_left_for_a_write() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(decided("web", "1"));
    let tried = queue.pop(now).unwrap();
    queue.ended(now, tried, Outcome::Failed);
    let due = queue.poll_timeout();
    let at = now + FIRST_RETRY;
    assert_eq!(due, Some(at));
    assert_eq!(next_retry(now, due, Some(at + SHORTEST_WRITE)), due);
    let too_late = at + SHORTEST_WRITE - Duration::from_millis(1);
    assert_eq!(next_retry(now, due, Some(too_late)), None);
    // Its time came while a write might begin, and has passed.
    let later = at + Duration::from_millis(50);
    assert_eq!(next_retry(later, due, Some(later + SHORTEST_WRITE)), due);
    assert_eq!(next_retry(later, due, Some(at + SHORTEST_WRITE)), None);
    assert_eq!(next_retry(now, due, None), None);
}

#[test]
fn a_patch_is_guarded_and_clears_what_is_not_wanted() {
    assert_eq!(
        patch(&decided("web", "42")),
        json!({
            "metadata": {"resourceVersion": "42", "annotations": {ALLOCATED_ANNOTATION: "blue"}},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]}},
        })
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
