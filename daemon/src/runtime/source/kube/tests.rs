use super::*;

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
    assert_eq!(leading.listed(1, Kind::ConfigMap), None);
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
    assert_eq!(announced, [None, None, None, Some(true)]);
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
    };
    without(Role::Allocator, &[Kind::EndpointSlice, Kind::BfdProfile]);
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
