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

/// One line per change, so that expectations read like a log.
fn told(changes: Vec<Change>) -> Vec<String> {
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

fn gone() -> Refusal {
    Refusal {
        message: "no CRD".into(),
        kind_is_gone: true,
    }
}

fn forbidden() -> Refusal {
    Refusal {
        message: "forbidden".into(),
        kind_is_gone: false,
    }
}

#[test]
fn a_kind_that_can_be_done_without_is_absent_until_one_was_seen() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::FerrolbBgpPeer, 2);
    assert!(told(listing.refuse(0, gone())).is_empty());
    assert_eq!(told(listing.refuse(1, gone())), ["absent no CRD"]);
    // The CRD comes, and goes again with what was in it.
    assert_eq!(
        told(list(&mut listing, now, 0, &[object("a", "x")])),
        ["reset a/x", "unreadable no CRD"]
    );
    list(&mut listing, now, 1, &[]);
    listing.refuse(1, gone());
    assert_eq!(told(listing.refuse(0, gone())), ["unreadable no CRD"]);
    let mut forbidden_one = Listing::new(Kind::FerrolbBgpPeer, 1);
    assert_eq!(
        told(forbidden_one.refuse(0, forbidden())),
        ["unreadable forbidden"]
    );
    let mut needed = Listing::new(Kind::IpAddressPool, 1);
    assert_eq!(told(needed.refuse(0, gone())), ["unreadable no CRD"]);
}

#[test]
fn a_kind_is_reset_once_all_namespaces_were_listed() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 2);
    assert!(told(list(&mut listing, now, 0, &[object("a", "x")])).is_empty());
    assert!(!listing.is_complete());
    // What changes while another namespace is still being listed is in the reset.
    assert!(
        listing
            .handle(now, 0, watcher::Event::Apply(object("a", "y")))
            .is_empty()
    );
    assert_eq!(
        told(list(&mut listing, now, 1, &[object("b", "z")])),
        ["reset a/x a/y b/z"]
    );
    assert!(listing.is_listed());
    // A relist of one namespace keeps the other's objects.
    assert_eq!(
        told(list(&mut listing, now, 0, &[object("a", "y")])),
        ["reset a/y b/z"]
    );
}

#[test]
fn a_list_that_broke_off_leaves_nothing_behind() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::Service, 1);
    listing.handle(now, 0, watcher::Event::Init);
    listing.handle(now, 0, watcher::Event::InitApply(object("a", "old")));
    assert_eq!(
        told(list(&mut listing, now, 0, &[object("a", "new")])),
        ["apply a/new", "listed a/new"]
    );
    assert_eq!(
        told(listing.handle(now, 0, watcher::Event::Delete(object("a", "new")))),
        ["delete a/new"]
    );
}

#[test]
fn a_refused_namespace_is_said_once_and_hides_no_other() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::Secret, 2);
    assert!(listing.refuse(1, forbidden()).is_empty());
    assert_eq!(
        told(list(&mut listing, now, 0, &[object("a", "x")])),
        ["reset a/x", "unreadable forbidden"]
    );
    assert!(listing.refuse(1, forbidden()).is_empty());
    assert_eq!(
        told(list(&mut listing, now, 1, &[object("b", "y")])),
        ["reset a/x b/y"]
    );
    // Refused later: what was known there stays.
    assert_eq!(
        told(listing.refuse(1, forbidden())),
        ["reset a/x b/y", "unreadable forbidden"]
    );
}

#[test]
fn an_absent_crd_counts_as_an_answer_and_works_once_it_is_there() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 1);
    assert_eq!(told(listing.refuse(0, gone())), ["unreadable no CRD"]);
    assert!(listing.is_complete() && !listing.is_listed());
    assert_eq!(told(list(&mut listing, now, 0, &[])), ["reset "]);
    assert_eq!(
        told(listing.handle(now, 0, watcher::Event::Apply(object("a", "x")))),
        ["apply a/x"]
    );
}

#[test]
fn a_deletion_is_believed_when_the_crd_stands() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 1);
    list(&mut listing, now, 0, &[object("a", "x"), object("a", "y")]);
    assert!(
        listing
            .handle(now, 0, watcher::Event::Delete(object("a", "x")))
            .is_empty()
    );
    assert!(listing.is_in_doubt());
    assert_eq!(told(listing.resolve(Ok(()))), ["delete a/x"]);
    assert!(!listing.is_in_doubt());
    // Deleted and created again at once: no delete at all.
    listing.handle(now, 0, watcher::Event::Delete(object("a", "y")));
    assert_eq!(
        told(listing.handle(now, 0, watcher::Event::Apply(object("a", "y")))),
        ["apply a/y"]
    );
    assert!(told(listing.resolve(Ok(()))).is_empty());
}

#[test]
fn objects_that_go_with_their_crd_are_not_deleted() {
    let now = Instant::now();
    let mut listing = Listing::new(Kind::IpAddressPool, 1);
    list(&mut listing, now, 0, &[object("a", "x"), object("a", "y")]);
    listing.handle(now, 0, watcher::Event::Delete(object("a", "x")));
    assert_eq!(told(listing.resolve(Err(gone()))), ["unreadable no CRD"]);
    assert!(told(listing.refuse(0, gone())).is_empty());

    // The CRD comes back empty: still nothing is deleted.
    let told_back = told(list(&mut listing, now, 0, &[]));
    assert_eq!(told_back.len(), 1, "{told_back:?}");
    assert!(
        told_back[0].starts_with("unreadable the CRD is back"),
        "{told_back:?}"
    );
    assert_eq!(listing.poll_timeout(), None);

    // Its objects come back one after the other; they are believed when nothing has come for a while.
    assert!(told(listing.handle(now, 0, watcher::Event::Apply(object("a", "y")))).is_empty());
    let later = now + SETTLE / 2;
    assert!(told(listing.handle(later, 0, watcher::Event::Apply(object("a", "z")))).is_empty());
    assert!(told(listing.handle_timeout(now + SETTLE)).is_empty());
    assert_eq!(listing.poll_timeout(), Some(later + SETTLE));
    assert_eq!(
        told(listing.handle_timeout(later + SETTLE)),
        ["reset a/y a/z"]
    );
    assert!(listing.is_listed());
}
