use std::sync::{Arc, Mutex};

use super::*;

/// A kernel that may refuse.
#[derive(Debug, Default)]
struct Host {
    rules: BTreeSet<Family>,
    prefixes: BTreeSet<IpNet>,
    refuses: bool,
    requests: usize,
}

#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<Host>>);

impl Fake {
    fn host(&self) -> std::sync::MutexGuard<'_, Host> {
        self.0.lock().expect("no panic")
    }

    fn change(&self, change: impl FnOnce(&mut Host)) -> io::Result<()> {
        let mut host = self.host();
        host.requests += 1;
        if host.refuses {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        change(&mut host);
        Ok(())
    }
}

impl Table for Fake {
    fn add_rules(&mut self, family: Family) -> io::Result<()> {
        self.change(|host| _ = host.rules.insert(family))
    }

    fn remove_rules(&mut self, family: Family) -> io::Result<()> {
        self.change(|host| _ = host.rules.remove(&family))
    }

    fn add(&mut self, prefix: IpNet) -> io::Result<()> {
        self.change(|host| _ = host.prefixes.insert(prefix))
    }

    fn remove(&mut self, prefix: IpNet) -> io::Result<()> {
        self.change(|host| _ = host.prefixes.remove(&prefix))
    }

    fn has_rules(&mut self, family: Family) -> io::Result<bool> {
        Ok(self.host().rules.contains(&family))
    }

    fn prefixes(&mut self, family: Family) -> io::Result<Vec<IpNet>> {
        let all = self.host().prefixes.clone();
        let of_family = all.into_iter();
        Ok(of_family
            .filter(|prefix| Family::of(prefix.addr()) == family)
            .collect())
    }
}

fn set(prefixes: &[&str]) -> BTreeSet<IpNet> {
    let prefixes = prefixes.iter();
    prefixes
        .map(|text| text.parse().expect("a prefix"))
        .collect()
}

fn discards(fake: &Fake) -> Discards {
    Discards::by(Box::new(fake.clone()))
}

#[test]
fn what_an_earlier_process_left_stays_until_the_first_decision_and_is_then_removed() {
    let fake = Fake::default();
    fake.host().prefixes = set(&["192.0.2.0/24", "203.0.113.0/24", "2001:db8::/64"]);
    fake.host().rules = Family::ALL.into();
    let mut discards = discards(&fake);
    let wanted = set(&["192.0.2.0/24"]);
    let now = Instant::now();
    assert_eq!(discards.add(now, &wanted), None);
    assert_eq!(fake.host().prefixes.len(), 3);
    discards.retain(now, &wanted);
    discards.remove_due(now + LINGER);
    assert_eq!(fake.host().prefixes, wanted);
    assert_eq!(fake.host().rules, [Family::V4].into());
    discards.retain(now, &BTreeSet::new());
    discards.remove_due(now + LINGER);
    assert!(fake.host().prefixes.is_empty() && fake.host().rules.is_empty());
}

#[test]
fn packets_are_discarded_for_some_seconds_after_the_withdrawal() {
    let fake = Fake::default();
    let mut discards = discards(&fake);
    let (now, wanted) = (Instant::now(), set(&["192.0.2.0/24"]));
    assert_eq!(discards.add(now, &wanted), None);
    discards.retain(now, &wanted);
    let second = Duration::from_secs(1);
    let withdrawn = now + second;
    discards.retain(withdrawn, &BTreeSet::new());
    discards.remove_due(withdrawn);
    discards.remove_due(withdrawn + LINGER - second);
    assert_eq!(fake.host().prefixes, wanted);
    assert_eq!(fake.host().rules, [Family::V4].into());
    // A later decision doesn't postpone it.
    discards.retain(withdrawn + second, &BTreeSet::new());
    discards.remove_due(withdrawn + LINGER);
    assert!(fake.host().prefixes.is_empty() && fake.host().rules.is_empty());
}

#[test]
fn an_aggregate_that_is_announced_again_is_not_removed() {
    let fake = Fake::default();
    let mut discards = discards(&fake);
    let (now, wanted) = (Instant::now(), set(&["192.0.2.0/24"]));
    assert_eq!(discards.add(now, &wanted), None);
    discards.retain(now, &wanted);
    discards.retain(now, &BTreeSet::new());
    assert_eq!(discards.add(now + LINGER / 2, &wanted), None);
    discards.remove_due(now + LINGER);
    discards.retain(now + LINGER, &wanted);
    discards.remove_due(now + LINGER * 3);
    assert_eq!(fake.host().prefixes, wanted);
    assert_eq!(fake.host().rules, [Family::V4].into());
}

#[test]
fn rules_without_a_route_are_removed_too() {
    let fake = Fake::default();
    fake.host().rules = Family::ALL.into();
    discards(&fake).retain(Instant::now(), &BTreeSet::new());
    assert!(fake.host().rules.is_empty());
}

#[test]
fn what_another_program_removed_is_added_again_after_the_interval() {
    let fake = Fake::default();
    let mut discards = discards(&fake);
    let (now, wanted) = (Instant::now(), set(&["192.0.2.0/24"]));
    assert_eq!(discards.add(now, &wanted), None);
    discards.retain(now, &wanted);
    fake.host().prefixes.clear();
    fake.host().rules.clear();
    let requests = fake.host().requests;
    assert_eq!(discards.add(now + REFRESH_INTERVAL / 2, &wanted), None);
    discards.retain(now, &wanted);
    discards.remove_due(now + REFRESH_INTERVAL / 2);
    assert_eq!(fake.host().requests, requests, "nothing changed");
    assert_eq!(discards.add(now + REFRESH_INTERVAL, &wanted), None);
    assert_eq!(fake.host().prefixes, wanted);
    assert_eq!(fake.host().rules, [Family::V4].into());
}

#[test]
fn a_refusal_is_returned_and_a_permission_granted_later_is_used() {
    let fake = Fake::default();
    fake.host().refuses = true;
    let mut discards = discards(&fake);
    let (now, wanted) = (Instant::now(), set(&["192.0.2.0/24"]));
    assert_eq!(
        discards.add(now, &wanted).as_deref(),
        Some("permission denied")
    );
    assert_eq!(
        discards.add(now, &BTreeSet::new()),
        None,
        "nothing to refuse"
    );
    fake.host().refuses = false;
    assert_eq!(discards.add(now + REFRESH_INTERVAL, &wanted), None);
    assert_eq!(fake.host().prefixes, wanted);
}
