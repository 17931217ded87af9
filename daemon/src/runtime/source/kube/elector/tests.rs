use proptest::prelude::*;

use super::*;

const TIMING: Timing = Timing::DEFAULT;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn held_by(holder: &str, version: u64) -> Record {
    Record {
        version: version.to_string(),
        holder: holder.into(),
        duration: TIMING.duration,
        transitions: 0,
    }
}

fn elector() -> Elector {
    Elector::new("me".into(), TIMING, 0)
}

fn write(elector: &mut Elector, now: Instant) -> Write {
    match elector.poll_action(now) {
        Some(Action::Write(write)) => write,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_absent_lease_is_created_and_renewed() {
    let start = Instant::now();
    let mut elector = elector();
    assert_eq!(elector.poll_action(start), None, "nothing is known yet");
    elector.observe(start, None);
    assert_eq!(write(&mut elector, start).replaces, None);
    assert_eq!(elector.poll_action(start), None, "one thing at a time");
    elector.written(start + seconds(1), WriteResult::Done(held_by("me", 5)));
    assert_eq!(
        elector.leads_until(start + seconds(1)),
        Some(start + TIMING.renew_deadline)
    );
    assert_eq!(elector.term(), 1);

    let renewal = start + TIMING.retry;
    assert_eq!(elector.poll_timeout(start + seconds(1)), Some(renewal));
    let write = write(&mut elector, renewal);
    assert_eq!(
        (write.replaces.as_deref(), write.acquires),
        (Some("5"), false)
    );
    elector.written(renewal, WriteResult::Done(held_by("me", 6)));
    assert_eq!(
        elector.leads_until(renewal),
        Some(renewal + TIMING.renew_deadline)
    );
    assert_eq!(elector.term(), 1);
}

#[test]
fn a_live_lease_is_not_acquired_until_unchanged_for_its_duration() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, Some(held_by("other", 5)));
    elector.observe(start + seconds(4), Some(held_by("other", 6)));
    // The same or an older version does not renew the Lease.
    elector.observe(start + seconds(9), Some(held_by("other", 6)));
    elector.observe(start + seconds(9), Some(held_by("other", 5)));
    let expiry = start + seconds(4) + TIMING.duration;
    assert_eq!(elector.poll_action(expiry - seconds(1)), None);
    assert_eq!(elector.poll_timeout(start + seconds(9)), Some(expiry));
    let write = write(&mut elector, expiry);
    assert_eq!(
        (write.replaces.as_deref(), write.acquires, write.transitions),
        (Some("6"), true, 1)
    );
}

#[test]
fn a_released_lease_is_acquired_at_once() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, Some(held_by("", 5)));
    assert!(write(&mut elector, start).acquires);
    elector.written(start, WriteResult::Done(held_by("me", 6)));
    let release = elector.release(start).unwrap();
    assert_eq!(
        (release.replaces.as_deref(), release.holder.as_str()),
        (Some("6"), "")
    );
    assert_eq!(elector.leads_until(start), None);
}

#[test]
fn a_conflict_is_followed_by_a_read_and_a_wait() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, Some(held_by("", 5)));
    write(&mut elector, start);
    elector.written(start, WriteResult::Conflict);
    assert!(matches!(
        elector.poll_action(start),
        Some(Action::Read { .. })
    ));
    elector.read(start, Ok(Some(held_by("other", 6))));
    assert_eq!(elector.poll_action(start + seconds(11)), None);
    assert_eq!(elector.leads_until(start), None);
}

#[test]
fn a_suspended_leader_loses_the_lead() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, Some(held_by("", 5)));
    write(&mut elector, start);
    elector.written(start, WriteResult::Done(held_by("me", 6)));
    let woken = start + seconds(30);
    assert_eq!(elector.leads_until(woken), None);
    // The Lease was not taken: leads again, in a new term.
    write(&mut elector, woken);
    elector.written(woken, WriteResult::Done(held_by("me", 7)));
    assert_eq!(elector.term(), 2);
    // The Lease was taken: the lead ends at once.
    elector.observe(woken, Some(held_by("other", 8)));
    assert_eq!(elector.leads_until(woken), None);
}

#[test]
fn a_late_answer_does_not_start_a_term() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, None);
    write(&mut elector, start);
    let late = start + TIMING.renew_deadline;
    elector.written(late, WriteResult::Done(held_by("me", 5)));
    assert_eq!(elector.leads_until(late), None);
    // But it shows that this process holds the Lease.
    assert!(!write(&mut elector, late).acquires);
}

#[test]
fn a_renewal_without_an_answer_is_retried_until_the_renew_deadline() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, None);
    write(&mut elector, start);
    elector.written(start, WriteResult::Done(held_by("me", 5)));
    let renewal = start + TIMING.retry;
    write(&mut elector, renewal);
    elector.written(renewal + TIMING.request, WriteResult::Failed);
    let again = renewal + TIMING.request + TIMING.retry;
    let last = write(&mut elector, again);
    assert_eq!(
        last.deadline,
        start + TIMING.renew_deadline,
        "no request ends after the lead"
    );
    // The first write had reached the server.
    elector.written(again, WriteResult::Conflict);
    assert!(matches!(
        elector.poll_action(again),
        Some(Action::Read { .. })
    ));
    elector.read(again, Ok(Some(held_by("me", 6))));
    assert!(elector.leads_until(again).is_some());
    write(&mut elector, again);
    elector.written(again, WriteResult::Done(held_by("me", 7)));
    assert_eq!(
        elector.leads_until(again),
        Some(again + TIMING.renew_deadline)
    );
    assert_eq!(elector.term(), 1);
}

#[test]
fn a_deleted_lease_is_not_acquired_before_its_holder_has_stopped() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, Some(held_by("other", 5)));
    elector.observe(start + seconds(1), None);
    assert!(matches!(
        elector.poll_action(start + seconds(1)),
        Some(Action::Read { .. })
    ));
    elector.read(start + seconds(1), Ok(None));
    assert_eq!(elector.poll_action(start + seconds(11)), None);
    assert_eq!(write(&mut elector, start + TIMING.duration).replaces, None);
}

#[test]
fn a_failing_api_server_is_not_polled_in_a_tight_loop() {
    let start = Instant::now();
    let mut elector = elector();
    elector.observe(start, None);
    write(&mut elector, start);
    elector.written(start, WriteResult::Failed);
    assert_eq!(elector.poll_action(start + seconds(1)), None);
    assert_eq!(elector.poll_timeout(start), Some(start + TIMING.retry));
    write(&mut elector, start + TIMING.retry);
    elector.written(start + TIMING.retry, WriteResult::Conflict);
    let now = start + TIMING.retry;
    assert!(matches!(
        elector.poll_action(now),
        Some(Action::Read { .. })
    ));
    elector.read(now, Err(()));
    assert_eq!(elector.poll_action(now + seconds(1)), None);
    // A conflict although the version is the same.
    assert!(matches!(
        elector.poll_action(now + TIMING.retry),
        Some(Action::Read { .. })
    ));
    elector.read(now + TIMING.retry, Ok(Some(held_by("", 5))));
    write(&mut elector, now + TIMING.retry);
    elector.written(now + TIMING.retry, WriteResult::Conflict);
    assert!(elector.poll_action(now + TIMING.retry).is_some());
    elector.read(now + TIMING.retry, Ok(Some(held_by("", 5))));
    assert_eq!(elector.poll_action(now + TIMING.retry), None);
}

#[test]
fn an_endless_lease_duration_is_limited() {
    let start = Instant::now();
    let mut elector = elector();
    let forever = Record {
        duration: Duration::from_secs(u64::MAX),
        ..held_by("other", 5)
    };
    elector.observe(start, Some(forever));
    assert_eq!(
        elector.poll_timeout(start),
        Some(start + Timing::MAX_DURATION)
    );
}

/// An API server with one Lease, and a network that may delay and lose requests and answers.
#[derive(Debug, Default)]
struct Server {
    version: u64,
    lease: Option<Record>,
}

impl Server {
    fn write(&mut self, write: &Write) -> WriteResult {
        let current = self.lease.as_ref().map(|lease| lease.version.clone());
        if current != write.replaces {
            return WriteResult::Conflict;
        }
        self.version += 1;
        let record = Record {
            version: self.version.to_string(),
            holder: write.holder.clone(),
            duration: TIMING.duration,
            transitions: write.transitions,
        };
        self.lease = Some(record.clone());
        WriteResult::Done(record)
    }
}

struct Node {
    elector: Elector,
    /// Offset of this node's clock.
    clock: Duration,
    sent: Option<Action>,
    answer: Option<WriteResult>,
}

/// The next event at one of the two nodes.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes without input; the node may act.
    Run,
    /// Its request reaches the server.
    Arrive,
    /// The answer comes back.
    Answer,
    /// No answer arrives, whether or not the request did.
    Lose,
    /// Its watch shows the current Lease.
    Watch,
    /// All of these at once, the usual case.
    Exchange,
}

fn step() -> impl Strategy<Value = (usize, Step, u64)> {
    let what = prop_oneof![
        3 => Just(Step::Run),
        3 => Just(Step::Arrive),
        3 => Just(Step::Answer),
        1 => Just(Step::Lose),
        2 => Just(Step::Watch),
        6 => Just(Step::Exchange),
    ];
    (
        0..2_usize,
        what,
        prop_oneof![4 => 0..500_u64, 2 => 0..3000_u64, 1 => 0..20_000_u64],
    )
}

impl Node {
    fn take(&mut self, step: Step, world: Instant, server: &mut Server) {
        let now = world + self.clock;
        match step {
            Step::Run if self.sent.is_none() => self.sent = self.elector.poll_action(now),
            Step::Run => self.elector.tick(now),
            Step::Arrive => {
                if let (Some(Action::Write(write)), None) = (&self.sent, &self.answer) {
                    self.answer = Some(server.write(write));
                }
            }
            Step::Answer => match (self.sent.take(), self.answer.take()) {
                (Some(Action::Read { .. }), _) => self.elector.read(now, Ok(server.lease.clone())),
                (Some(Action::Write(_)), Some(answer)) => self.elector.written(now, answer),
                (sent, _) => self.sent = sent,
            },
            Step::Lose => match (self.sent.take(), self.answer.take()) {
                (Some(Action::Read { .. }), _) => self.elector.read(now, Err(())),
                (Some(Action::Write(_)), _) => self.elector.written(now, WriteResult::Failed),
                (None, _) => {}
            },
            Step::Watch => self.elector.observe(now, server.lease.clone()),
            Step::Exchange => {
                for step in [Step::Watch, Step::Run, Step::Arrive, Step::Answer] {
                    self.take(step, world, server);
                }
            }
        }
    }

    fn leads(&self, world: Instant) -> bool {
        self.elector.leads_until(world + self.clock).is_some()
    }
}

proptest! {
    /// With any delay, loss, suspension and clock offset there are never two leaders, and once
    /// the network works again there is one.
    #[test]
    fn never_two_leaders_and_eventually_one(
        steps in prop::collection::vec(step(), 1..400),
        clock in 0..1_000_000_u64,
    ) {
        let mut world = Instant::now();
        let mut server = Server::default();
        let node = |name: &str, clock| Node {
            elector: Elector::new(name.into(), TIMING, 0),
            clock: Duration::from_millis(clock),
            sent: None,
            answer: None,
        };
        let mut nodes = [node("a", 0), node("b", clock)];
        for (index, step, pause) in steps {
            world += Duration::from_millis(pause);
            nodes[index].take(step, world, &mut server);
            let leaders = nodes.iter().filter(|node| node.leads(world)).count();
            prop_assert!(leaders <= 1, "two leaders after {step:?} at {index}");
        }
        let mut timeout = TIMING.duration + TIMING.retry * 4;
        while !nodes.iter().any(|node| node.leads(world)) {
            let electors = nodes.each_ref().map(|node| &node.elector);
            prop_assert!(!timeout.is_zero(), "there is no leader: {electors:?}");
            world += Duration::from_millis(500);
            timeout = timeout.saturating_sub(Duration::from_millis(500));
            for node in &mut nodes {
                node.take(Step::Exchange, world, &mut server);
            }
            prop_assert!(nodes.iter().filter(|node| node.leads(world)).count() <= 1);
        }
    }
}
