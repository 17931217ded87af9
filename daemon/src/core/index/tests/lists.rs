//! The effects of listing a kind, of a refused list and of an absent kind.

use super::*;

#[test]
fn a_list_deletes_objects_that_are_not_in_it() {
    let mut index = index(initial());
    index.apply(service("service-1", "Cluster", "192.0.2.2"));
    let present = [key(Kind::Service, "service-1").name];
    let dirty = index.apply(Change::Listed(Kind::Service, present.clone().into()));
    assert_eq!(
        dirty.services,
        [key(Kind::Service, "service-0").name].into()
    );
    assert_eq!(index.services().count(), 1);
    assert!(index.service(&present[0]).is_some());
    assert!(index.is_listed(&[Kind::Service]) && index.is_synced(&[Kind::Service]));
}

#[test]
fn services_are_readable_again_when_they_are_listed() {
    let mut index = Index::default();
    index.apply(Change::Unreadable(Kind::Service, "forbidden".into()));
    assert!(index.is_synced(&[Kind::Service]) && !index.is_listed(&[Kind::Service]));
    assert_eq!(index.problems().len(), 1);
    let dirty = index.apply(Change::Reset(Kind::Service, Vec::new()));
    assert!(dirty.configuration);
    assert!(index.problems().is_empty() && index.is_listed(&[Kind::Service]));
}

#[test]
fn a_list_without_an_invalid_object_removes_its_problem() {
    let mut index = Index::default();
    index.apply(service("bad", "Nonsense", "192.0.2.1"));
    assert_eq!(index.problems().len(), 1);
    assert!(
        index
            .apply(Change::Reset(Kind::Service, Vec::new()))
            .problems
    );
    assert!(index.problems().is_empty());
}

#[test]
fn a_list_of_one_group_of_peers_is_enough() {
    let absent = |kind| Change::Absent(kind, "no CRD".into());
    let both = [Kind::BgpPeer, Kind::FerrolbBgpPeer];
    let mut index = Index::default();
    index.apply(absent(Kind::FerrolbBgpPeer));
    assert!(!index.is_synced(&both) && !index.is_listed(&both));
    index.apply(Change::Reset(Kind::BgpPeer, Vec::new()));
    // The announced routes may have come from the other group: an empty list doesn't rule that out.
    assert!(index.is_synced(&both) && !index.is_listed(&both));
    assert!(index.problems().is_empty());
    index.apply(peer("tor", "10.0.0.1", 64512));
    assert!(index.is_listed(&both));
    // If both are missing, the peers are unknown, and one problem is reported.
    let mut index = Index::default();
    index.apply(absent(Kind::FerrolbBgpPeer));
    index.apply(absent(Kind::BgpPeer));
    assert!(index.is_synced(&both) && !index.is_listed(&both));
    assert_eq!(index.problems().len(), 1);
    index.apply(Change::Reset(Kind::FerrolbBgpPeer, Vec::new()));
    assert!(!index.is_listed(&both));
    index.apply(ferrolb_peer("tor", "10.0.0.1"));
    assert!(index.is_listed(&both) && index.problems().is_empty());
    // BFDProfiles without a CRD can't exist: don't wait for them.
    index.apply(absent(Kind::BfdProfile));
    assert!(index.is_listed(&[Kind::BfdProfile]));
    index.apply(absent(Kind::FerrolbBfdProfile));
    assert!(index.is_listed(&[Kind::BfdProfile, Kind::FerrolbBfdProfile]));
    assert!(index.problems().is_empty(), "{:?}", index.problems());
}

#[test]
fn a_namespace_that_no_pool_selects_changes_nothing() {
    let mut index = index(initial());
    let dirty = index.apply(object(Kind::Namespace, "another", json!({})));
    assert!(dirty.is_empty(), "{dirty:?}");
}
