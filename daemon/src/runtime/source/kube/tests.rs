use super::*;

fn lead(term: u64, leads: bool) -> Lead {
    Lead {
        term,
        until: leads.then(std::time::Instant::now),
    }
}

#[test]
fn a_leader_says_so_when_everything_was_listed_in_its_term() {
    let mut leading = Leading::default();
    assert_eq!(leading.lead(lead(1, true)), (None, true));
    assert_eq!(leading.answered(0, Kind::Service), None);
    assert_eq!(leading.answered(1, Kind::Service), None);
    assert_eq!(leading.answered(1, Kind::Namespace), None);
    assert_eq!(leading.decides(), None);
    assert_eq!(leading.answered(1, Kind::IpAddressPool), Some(true));
    assert_eq!(leading.decides(), Some(1));
    // A renewal is no news.
    assert_eq!(leading.lead(lead(1, true)), (None, false));
    assert_eq!(leading.lead(lead(1, false)), (Some(false), false));
    assert_eq!(leading.decides(), None);
}

#[test]
fn a_new_term_begins_with_new_lists_even_if_its_loss_was_missed() {
    let mut leading = Leading::default();
    leading.lead(lead(1, true));
    for kind in ALLOCATED_FROM {
        leading.answered(1, kind);
    }
    assert_eq!(leading.lead(lead(2, true)), (Some(false), true));
    assert_eq!(leading.answered(1, Kind::Service), None);
    assert_eq!(leading.decides(), None);
    let told: Vec<_> = ALLOCATED_FROM
        .into_iter()
        .map(|kind| leading.answered(2, kind))
        .collect();
    assert_eq!(told, [None, None, Some(true)]);
}

#[test]
fn a_leadership_that_ends_before_it_was_told_is_not_told() {
    let mut leading = Leading::default();
    leading.lead(lead(1, true));
    assert_eq!(leading.lead(lead(1, false)), (None, false));
    assert_eq!(leading.answered(1, Kind::Service), None);
}

#[test]
fn an_allocator_reads_no_secrets_or_endpoints() {
    let read = kinds(true, false);
    for kind in [Kind::Secret, Kind::EndpointSlice, Kind::BfdProfile] {
        assert!(!read.contains(&kind), "{}", kind.name());
    }
    assert!(ALLOCATED_FROM.iter().all(|kind| read.contains(kind)));
    assert_eq!(kinds(true, true).len(), Kind::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_panics_begins_anew() {
    let begun = std::cell::Cell::new(0);
    let follow = || {
        begun.set(begun.get() + 1);
        let first = begun.get() == 1;
        async move {
            assert!(!first, "an object that trips us");
            std::future::pending::<()>().await;
        }
    };
    let followed = tokio::time::timeout(3 * PAUSE, again(Kind::Service, follow)).await;
    assert!(followed.is_err(), "it goes on for ever");
    assert_eq!(begun.get(), 2);
}
