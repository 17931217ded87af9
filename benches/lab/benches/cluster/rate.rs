//! Measures lag and cost of the announcer at a thousand EndpointSlice changes a second for a
//! minute.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::{cpu_time, memory};
use ferrolb_lab_bench::statistics::{milliseconds, percentile};
use ipnet::IpNet;
use serde_json::json;

use super::PEERS;
use super::api_client::ApiClient;
use super::router::{Event, Received};
use super::routers::Routers;

const PER_SECOND: usize = 1000;
/// Microseconds between two changes.
const INTERVAL: u64 = 1_000_000 / PER_SECOND as u64;
/// Memory and lag are read after each part.
const PARTS: usize = 6;
/// Seconds.
const PART: usize = 10;
/// Wait after the last response; longer than any bounded lag.
const MAX_LAG: Duration = Duration::from_secs(5);

/// Times of the responses that no UPDATE has followed yet, by prefix and whether it was announced.
type Pending = HashMap<(IpNet, bool), VecDeque<Instant>>;

/// Sets the endpoints of all Services unready and ready again, one after another.
pub(crate) fn measure(
    api: &ApiClient,
    routers: &mut Routers,
    node: &str,
    services: usize,
    pid: u32,
) -> Result<()> {
    let addresses = api.addresses(services)?;
    let mut made = 0;
    for part in 1..=PARTS {
        let (began, cpu_before) = (Instant::now(), cpu_time(pid)?);
        let changes: Vec<(Instant, usize, bool)> = (0..PER_SECOND * PART)
            .map(|number| {
                let at = began + Duration::from_micros(number as u64 * INTERVAL);
                let total = made + number;
                (at, total % services, total / services % 2 == 1)
            })
            .collect();
        made += changes.len();
        let answered = api.set_ready_in_step(node, &changes)?;
        let elapsed = began.elapsed();
        let received = routers.take(MAX_LAG);
        let lags = lags(&changes, &answered, &addresses, &received);
        let cpu = cpu_time(pid)?.saturating_sub(cpu_before);
        let memory = memory(pid)?;
        measurement::print(
            "endpoint_slice_rate",
            &[
                ("services", json!(services)),
                ("peers", json!(PEERS)),
                ("part", json!(part)),
                ("changes", json!(changes.len())),
                (
                    "seconds",
                    json!((elapsed.as_secs_f64() * 10.0).round() / 10.0),
                ),
                ("seen_at_all_peers", json!(lags.len())),
                ("lag_p50_ms", json!(percentile(&lags, 50))),
                ("lag_p99_ms", json!(percentile(&lags, 99))),
                ("lag_max_ms", json!(percentile(&lags, 100))),
                (
                    "cpu_ms_per_change",
                    json!(milliseconds(cpu / u32::try_from(changes.len())?)),
                ),
                ("vm_rss_kib", json!(memory.now)),
            ],
        );
    }
    // Restore the initial state.
    let ready: Vec<_> = (0..services)
        .map(|index| (Instant::now(), index, true))
        .collect();
    api.set_ready_in_step(node, &ready)?;
    routers.take(MAX_LAG);
    Ok(())
}

/// Times from the API server's response to the UPDATE at the last peer, in milliseconds, sorted.
/// Two changes of a prefix that the announcer merged are not counted.
fn lags(
    changes: &[(Instant, usize, bool)],
    answered: &[(usize, Instant)],
    addresses: &[std::net::IpAddr],
    received: &[Received],
) -> Vec<f64> {
    let mut pending: Vec<Pending> = vec![Pending::new(); usize::from(PEERS)];
    let mut in_order = answered.to_vec();
    in_order.sort_unstable();
    let mut last: HashMap<(IpNet, bool, Instant), (usize, Instant)> = HashMap::new();
    for (number, at) in in_order {
        let (_, index, ready) = changes[number];
        for pending in &mut pending {
            let key = (IpNet::from(addresses[index]), ready);
            pending.entry(key).or_default().push_back(at);
        }
    }
    for Received { at, router, event } in received {
        let (prefixes, present) = match event {
            Event::Announced(prefixes) => (prefixes, true),
            Event::Withdrawn(prefixes) => (prefixes, false),
            Event::Established | Event::EndOfRib | Event::Closed => continue,
        };
        for prefix in prefixes {
            let queue = pending[*router].get_mut(&(*prefix, present));
            if let Some(answered) = queue.and_then(VecDeque::pop_front) {
                let seen = last.entry((*prefix, present, answered)).or_insert((0, *at));
                *seen = (seen.0 + 1, seen.1.max(*at));
            }
        }
    }
    let complete = last
        .into_iter()
        .filter(|(_, (count, _))| *count == usize::from(PEERS));
    let mut lags: Vec<f64> = complete
        .map(|((_, _, answered), (_, at))| {
            // The UPDATE may arrive before the response.
            let early = answered.saturating_duration_since(at);
            milliseconds(at.saturating_duration_since(answered)) - milliseconds(early)
        })
        .collect();
    lags.sort_by(f64::total_cmp);
    lags
}
