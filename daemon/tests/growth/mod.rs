//! The computed tables of docs/scale.md: from the rows of docs/benchmarks.md, the timers of the
//! code, and formulas that the page shows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use ferrolb_layer2::limits::{HELLO_INTERVAL, HELLO_INTERVAL_PER_NODE, HELLO_MULTIPLIER};

/// The sizes of clusters that the tables show.
const NODES: [u32; 4] = [100, 500, 1000, 5000];
/// The routers of a node.
const ROUTERS: f64 = 2.0;
/// A kubelet writes the status of its Node this often if nothing changes, in seconds:
/// https://kubernetes.io/docs/reference/node/node-status/#heartbeats
const NODE_STATUS: f64 = 300.0;
/// The processes of ferrolb on a node that watch Nodes: announcer and layer 2.
const WATCHERS_PER_NODE: f64 = 2.0;
/// Those elsewhere: allocators.
const ALLOCATORS: f64 = 2.0;
/// How often a BGPSession is written again, and its counters, in seconds on average.
const SESSION_REFRESH: f64 = 900.0;
const SESSION_COUNTERS: f64 = 75.0;
/// A hello is sent up to a tenth of the interval early.
const HELLO_JITTER: f64 = 0.95;
/// A leader that does not renew its Lease for so long leads no more, in seconds.
const RENEW_DEADLINE: f64 = 8.0;
/// 1 Gbit/s in octets per second.
const GIGABIT: f64 = 125e6;

/// The rows of one benchmark: values by column.
type Rows = Vec<BTreeMap<String, String>>;

/// What is computed, how the page writes it, and how it is computed from the number of nodes.
type Formula<'a> = (&'a str, &'a str, &'a dyn Fn(u32) -> f64);

/// The parts of the page, by the name in their comments.
pub(super) fn parts(measured: &str) -> Vec<(&'static str, String)> {
    check_constants();
    check_hellos(measured);
    vec![
        ("memory", memory(measured)),
        ("decisions", decisions(measured)),
        ("growth", growth(measured)),
        ("limit", limit(measured)),
    ]
}

/// The rows below `### NAME`.
fn rows(measured: &str, name: &str) -> Rows {
    let heading = format!("\n### {name}\n");
    let (_, rest) = measured
        .split_once(&heading)
        .unwrap_or_else(|| panic!("docs/benchmarks.md has no rows {name}: cargo xtask bench"));
    let mut lines = rest.lines().skip_while(|line| line.is_empty());
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|').split('|');
        inner.map(|cell| cell.trim().to_owned()).collect()
    };
    let columns = cells(lines.next().expect("a header"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| columns.iter().cloned().zip(cells(row)).collect())
        .collect()
}

/// The value of a column in the row that has these values in other ones.
fn value(rows: &Rows, conditions: &[(&str, &str)], column: &str) -> f64 {
    let fits = |row: &&BTreeMap<String, String>| {
        let mut conditions = conditions.iter();
        conditions.all(|(column, value)| row.get(*column).is_some_and(|found| found == value))
    };
    let row = rows.iter().rfind(fits);
    let row = row.unwrap_or_else(|| panic!("no row with {conditions:?}: {rows:?}"));
    number(&row[column])
}

fn number(text: &str) -> f64 {
    let number = text.replace(',', "").parse();
    number.unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// A number for people: with separators, and with decimals only if it is small.
fn shown(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

fn mebibytes(kibibytes: f64) -> String {
    shown(kibibytes / 1024.0)
}

/// Resident memory: measured with few and with many nodes, and computed for large clusters.
fn memory(measured: &str) -> String {
    let by_nodes = rows(measured, "scale_memory");
    let by_services = rows(measured, "memory");
    let mut table = String::from(
        "| process | 10 nodes, 1,000 Services (measured) | 5,000 nodes, 1,000 Services (measured) \
         | \
         for 1,000 nodes more | for 1,000 Services more | 5,000 nodes, 10,000 Services (computed) \
         |\n|---|---|---|---|---|---|\n",
    );
    for role in ["allocator", "announcer", "layer2"] {
        let of = |nodes: &str, column: &str| {
            value(&by_nodes, &[("role", role), ("nodes", nodes)], column)
        };
        let (few, many) = (of("10", "vm rss kib"), of("5,000", "vm rss kib"));
        let per_node = (many - few) / 4990.0;
        // The benchmark with many Services has no row of layer 2.
        let services = (role != "layer2").then(|| {
            let of = |services: &str| {
                let row = [("role", role), ("services", services)];
                value(&by_services, &row, "vm rss kib")
            };
            (of("10,000") - of("0")) / 10_000.0
        });
        let per_thousand = services.map(|each| mebibytes(each * 1000.0));
        let large = services.map(|each| mebibytes(many + each * 9000.0));
        writeln!(
            table,
            "| {role} | {} MiB | {} MiB | {} MiB | {} | {} |",
            mebibytes(few),
            mebibytes(many),
            mebibytes(per_node * 1000.0),
            with_unit(per_thousand),
            with_unit(large),
        )
        .expect("a string");
    }
    table
}

fn with_unit(value: Option<String>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value} MiB"))
}

/// CPU time of the leader's decisions, in milliseconds of one run. It grows with nodes × Services
/// where all nodes count.
fn decisions(measured: &str) -> String {
    let leader = rows(measured, "scale_leader");
    let spent = |change: &str, nodes: &str| {
        let row = [("change", change), ("nodes", nodes)];
        value(&leader, &row, "cpu ms")
    };
    let [one, enough, none] = [
        "a Node; every Service is announced",
        "a Node; minAnnouncers is 2",
        "the configuration; no Service is announced",
    ];
    let mut table = String::from(
        "| a change of | 10 nodes | 100 nodes | 1,000 nodes | 5,000 nodes |\n\
         |---|---|---|---|---|\n",
    );
    for change in [one, enough, none] {
        write!(table, "| {change} |").expect("a string");
        for nodes in ["10", "100", "1,000"] {
            write!(table, " {} ms |", shown(spent(change, nodes))).expect("a string");
        }
        let large = if change == one {
            shown(spent(change, "5,000"))
        } else {
            format!("{} ms, computed", shown(spent(change, "1,000") * 5.0))
        };
        let unit = if change == one { " ms" } else { "" };
        writeln!(table, " {large}{unit} |").expect("a string");
    }
    let pairs = RENEW_DEADLINE * 1e3 / (spent(enough, "1,000") / 1e6);
    writeln!(
        table,
        "\nWith `minAnnouncers`, nodes × Services may be {} before one look takes 8 s of CPU time.",
        shown((pairs / 1e5).floor() * 1e5)
    )
    .expect("a string");
    table
}

/// Octets that a process receives for one change of an object.
fn octets(measured: &str, change: &str) -> f64 {
    let changes = rows(measured, "scale_change");
    let row = [
        ("role", "announcer"),
        ("change", change),
        ("nodes", "5,000"),
    ];
    value(&changes, &row, "octets per change")
}

/// Octets of one status of a Node.
fn node_octets(measured: &str) -> f64 {
    octets(measured, "Node status")
}

/// Updates of Nodes that all processes receive, per second, with this many processes on a node.
fn node_events(nodes: f64, watchers: f64) -> f64 {
    nodes / NODE_STATUS * (watchers * nodes + ALLOCATORS)
}

fn hello_interval(nodes: u32) -> Duration {
    HELLO_INTERVAL.max(HELLO_INTERVAL_PER_NODE * nodes)
}

/// Hellos on a segment on which all nodes own addresses, per second.
fn hellos(nodes: u32) -> f64 {
    f64::from(nodes) / (hello_interval(nodes).as_secs_f64() * HELLO_JITTER)
}

/// What a cluster of N nodes with two routers each causes.
fn growth(measured: &str) -> String {
    let slice = octets(measured, "EndpointSlice of 100");
    let octets = node_octets(measured);
    let events = |nodes: u32| node_events(nodes.into(), WATCHERS_PER_NODE);
    let formulas: [Formula<'_>; 9] = [
        (
            "updates of Nodes that API servers send, per second",
            "N/300 × (2N + 2)",
            &events,
        ),
        (
            "the same in MB per second",
            "× octets of a Node",
            &|nodes| events(nodes) * octets / 1e6,
        ),
        (
            "of which one process receives, in KB per second",
            "N/300 × octets of a Node",
            &|nodes| f64::from(nodes) / NODE_STATUS * octets / 1e3,
        ),
        (
            "MB that API servers send for one change of an EndpointSlice of 100 endpoints",
            "(2N + 1) × octets of the slice",
            &|nodes| (WATCHERS_PER_NODE * f64::from(nodes) + 1.0) * slice / 1e6,
        ),
        (
            "writes of BGPSessions at rest, per second",
            "2N / 900",
            &|nodes| f64::from(nodes) * ROUTERS / SESSION_REFRESH,
        ),
        (
            "the same while Services change all the time",
            "2N / 75",
            &|nodes| f64::from(nodes) * ROUTERS / SESSION_COUNTERS,
        ),
        (
            "Events for one new Service (`externalTrafficPolicy: Cluster`)",
            "N + 1",
            &|nodes| f64::from(nodes) + 1.0,
        ),
        (
            "hellos per second on a segment with all nodes",
            "N / (0.95 × interval)",
            &hellos,
        ),
        (
            "silence until a node counts as dead, in seconds",
            "3 × interval",
            &|nodes| hello_interval(nodes).as_secs_f64() * f64::from(HELLO_MULTIPLIER),
        ),
    ];
    let mut table = String::from("| what | formula |");
    for nodes in NODES {
        write!(table, " {} nodes |", shown(nodes.into())).expect("a string");
    }
    table += "\n|---|---|---|---|---|---|\n";
    for (what, formula, compute) in formulas {
        write!(table, "| {what} | {formula} |").expect("a string");
        for nodes in NODES {
            write!(table, " {} |", shown(compute(nodes))).expect("a string");
        }
        table.push('\n');
    }
    table
}

/// Where the first limit lies.
fn limit(measured: &str) -> String {
    let octets = node_octets(measured);
    let reached = |watchers: f64| {
        let mut nodes = 1.0;
        while node_events(nodes, watchers) * octets < GIGABIT {
            nodes += 1.0;
        }
        shown(nodes)
    };
    format!(
        "With a Node of {} octets on the wire, all API servers together send 1 Gbit/s at {} nodes, \
         and with only one of\nthe two DaemonSets at {}.\n",
        shown(octets),
        reached(WATCHERS_PER_NODE),
        reached(1.0)
    )
}

/// The formula of hellos agrees with what was counted.
fn check_hellos(measured: &str) {
    for row in rows(measured, "layer2_rest") {
        let nodes: u32 = row["nodes"].parse().expect("a number");
        let counted = number(&row["frames per minute"]) / 60.0;
        let computed = hellos(nodes);
        let ratio = counted / computed;
        assert!(
            (0.97..1.03).contains(&ratio),
            "{nodes}: {counted}, {computed}"
        );
    }
}

/// The timers that the formulas repeat are those of the code.
fn check_constants() {
    let read = |path: &str| {
        let path = super::root().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()))
    };
    let sessions = "daemon/src/runtime/announce/bgp_sessions";
    for (file, line) in [
        (
            "daemon/src/runtime/source/kube/elector/mod.rs".to_owned(),
            "renew_deadline: Duration::from_secs(8),",
        ),
        (
            format!("{sessions}/mod.rs"),
            "const REFRESH: Duration = Duration::from_mins(10);",
        ),
        (
            format!("{sessions}/ledger/mod.rs"),
            "const COUNTERS: Duration = Duration::from_mins(1);",
        ),
        (
            format!("{sessions}/ledger/mod.rs"),
            "const COUNTERS_JITTER: Duration = Duration::from_secs(30);",
        ),
    ] {
        assert!(read(&file).contains(line), "{file} has no {line}");
    }
    assert_eq!(SESSION_REFRESH, 600.0 * 1.5, "once to twice ten minutes");
    assert_eq!(SESSION_COUNTERS, 60.0 + 30.0 / 2.0);
}

#[test]
fn rows_are_read_with_their_numbers() {
    let page = "# Page\n\n### other\n\n| a |\n|---|\n| 1 |\n\n### some\n\n| role | all ms |\n\
        |---|---|\n| x | 1,234.5 |\n| y | 7 |\n\ntext\n";
    let rows = rows(page, "some");
    assert_eq!(rows.len(), 2);
    assert_eq!(value(&rows, &[("role", "x")], "all ms"), 1234.5);
    assert_eq!(shown(1234.5), "1,234");
    assert_eq!(
        (shown(9.96), shown(0.04)),
        ("10.0".to_owned(), "0.0".to_owned())
    );
}
