use serde_json::json;

use super::*;
use crate::runtime::source::kube::object::Object;

fn object(namespace: &str, name: &str) -> Object {
    serde_json::from_value(
        json!({"metadata": {"namespace": namespace, "name": name, "resourceVersion": "1"}}),
    )
    .unwrap()
}

fn list(listing: &mut Listing, now: Instant, scope: usize, objects: &[Object]) -> Vec<Change> {
    let mut changes = listing.handle(now, scope, watcher::Event::Init);
    for object in objects {
        changes.extend(listing.handle(now, scope, watcher::Event::InitApply(object.clone())));
    }
    changes.extend(listing.handle(now, scope, watcher::Event::InitDone));
    changes
}

/// One line per change, so that expectations are easy to read.
fn report(changes: Vec<Change>) -> Vec<String> {
    let names = |objects: Vec<(ObjectKey, RawObject)>| {
        objects
            .iter()
            .map(|(key, _)| key.name.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let line = |change| match change {
        Change::Apply(key, _) => format!("apply {}", key.name),
        Change::Delete(key) => format!("delete {}", key.name),
        Change::Reset(_, objects) => format!("reset {}", names(objects)),
        Change::Listed(_, names) => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            format!("listed {}", names.join(" "))
        }
        Change::Unreadable(_, message) => format!("unreadable {message}"),
        Change::Absent(_, message) => format!("absent {message}"),
    };
    changes.into_iter().map(line).collect()
}

fn missing() -> ListError {
    ListError {
        message: "no CRD".into(),
        kind_missing: true,
    }
}

fn forbidden() -> ListError {
    ListError {
        message: "forbidden".into(),
        kind_missing: false,
    }
}

#[test]
fn a_kind_is_absent_until_an_object_was_seen() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::FerrolbBgpPeer, 2);
    assert!(report(listing.reject(0, missing())).is_empty());
    assert_eq!(report(listing.reject(1, missing())), ["absent no CRD"]);
    // The CRD is created, and deleted again with its objects.
    assert_eq!(
        report(list(&mut listing, now, 0, &[object("a", "x")])),
        ["reset a/x", "unreadable no CRD"]
    );
    list(&mut listing, now, 1, &[]);
    listing.reject(1, missing());
    assert_eq!(report(listing.reject(0, missing())), ["unreadable no CRD"]);
    let mut forbidden_one = Listing::new(Kind::FerrolbBgpPeer, 1);
    assert_eq!(
        report(forbidden_one.reject(0, forbidden())),
        ["unreadable forbidden"]
    );
    let mut needed = Listing::new(Kind::IpAddressPool, 1);
    assert_eq!(report(needed.reject(0, missing())), ["absent no CRD"]);
}

#[test]
fn a_kind_is_reset_when_all_namespaces_are_listed() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 2);
    assert!(report(list(&mut listing, now, 0, &[object("a", "x")])).is_empty());
    assert!(!listing.is_complete());
    // The reset contains changes that arrived while another namespace was being listed.
    assert!(
        listing
            .handle(now, 0, watcher::Event::Apply(object("a", "y")))
            .is_empty()
    );
    assert_eq!(
        report(list(&mut listing, now, 1, &[object("b", "z")])),
        ["reset a/x a/y b/z"]
    );
    assert!(listing.is_listed());
    // A relist of one namespace keeps the objects of the others.
    assert_eq!(
        report(list(&mut listing, now, 0, &[object("a", "y")])),
        ["reset a/y b/z"]
    );
}

#[test]
fn an_interrupted_list_leaves_no_objects() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::Service, 1);
    listing.handle(now, 0, watcher::Event::Init);
    listing.handle(now, 0, watcher::Event::InitApply(object("a", "old")));
    assert_eq!(
        report(list(&mut listing, now, 0, &[object("a", "new")])),
        ["apply a/new", "listed a/new"]
    );
    assert_eq!(
        report(listing.handle(now, 0, watcher::Event::Delete(object("a", "new")))),
        ["delete a/new"]
    );
}

#[test]
fn a_rejected_namespace_is_reported_once_and_hides_no_other() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::Secret, 2);
    assert!(listing.reject(1, forbidden()).is_empty());
    assert_eq!(
        report(list(&mut listing, now, 0, &[object("a", "x")])),
        ["reset a/x", "unreadable forbidden"]
    );
    assert!(listing.reject(1, forbidden()).is_empty());
    assert_eq!(
        report(list(&mut listing, now, 1, &[object("b", "y")])),
        ["reset a/x b/y"]
    );
    // Rejected later: its known objects stay.
    assert_eq!(
        report(listing.reject(1, forbidden())),
        ["reset a/x b/y", "unreadable forbidden"]
    );
}

#[test]
fn an_absent_crd_counts_as_an_answer_and_can_be_installed_later() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 1);
    assert_eq!(report(listing.reject(0, missing())), ["absent no CRD"]);
    assert!(listing.is_complete() && !listing.is_listed());
    assert_eq!(report(list(&mut listing, now, 0, &[])), ["reset "]);
    assert_eq!(
        report(listing.handle(now, 0, watcher::Event::Apply(object("a", "x")))),
        ["apply a/x"]
    );
}

#[test]
fn a_deletion_is_applied_when_the_crd_exists() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 1);
    list(&mut listing, now, 0, &[object("a", "x"), object("a", "y")]);
    assert!(
        listing
            .handle(now, 0, watcher::Event::Delete(object("a", "x")))
            .is_empty()
    );
    assert!(listing.has_pending_deletes());
    assert_eq!(report(listing.resolve(Ok(()))), ["delete a/x"]);
    assert!(!listing.has_pending_deletes());
    // Deleted and created again at once: no delete is reported.
    listing.handle(now, 0, watcher::Event::Delete(object("a", "y")));
    assert_eq!(
        report(listing.handle(now, 0, watcher::Event::Apply(object("a", "y")))),
        ["apply a/y"]
    );
    assert!(report(listing.resolve(Ok(()))).is_empty());
}

#[test]
fn objects_deleted_with_their_crd_are_kept() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 1);
    list(&mut listing, now, 0, &[object("a", "x"), object("a", "y")]);
    listing.handle(now, 0, watcher::Event::Delete(object("a", "x")));
    assert_eq!(
        report(listing.resolve(Err(missing()))),
        ["unreadable no CRD"]
    );
    assert!(report(listing.reject(0, missing())).is_empty());

    // The CRD comes back without objects: nothing is deleted yet.
    let reported = report(list(&mut listing, now, 0, &[]));
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].starts_with("unreadable the CRD is back"),
        "{reported:?}"
    );
    assert_eq!(listing.poll_timeout(), None);

    // Its objects are created again one by one; they count when there is no further change.
    assert!(report(listing.handle(now, 0, watcher::Event::Apply(object("a", "y")))).is_empty());
    let later = now + SETTLE_TIME / 2;
    assert!(report(listing.handle(later, 0, watcher::Event::Apply(object("a", "z")))).is_empty());
    assert!(report(listing.handle_timeout(now + SETTLE_TIME)).is_empty());
    assert_eq!(listing.poll_timeout(), Some(later + SETTLE_TIME));
    assert_eq!(
        report(listing.handle_timeout(later + SETTLE_TIME)),
        ["reset a/y a/z"]
    );
    assert!(listing.is_listed());
}
