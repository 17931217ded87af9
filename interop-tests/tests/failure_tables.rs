//! The tables of docs/failures.md that repeat measurements of docs/benchmarks.md. UPDATE_DOCS=1
//! copies them.

use anyhow::{Context, Result};
use ferrolb_interop_tests::document::{Row, check, table};

const FROM: &str = "docs/benchmarks.md";
const TO: &str = "docs/failures.md";

/// The failure detections of the benchmark, in the order of the columns of the page.
const DETECTIONS: [&str; 4] = [
    "hold time 9 s",
    "graceful restart",
    "BFD 100 ms × 3",
    "graceful restart, BFD 100 ms × 3",
];

/// Events of the benchmark `traffic`, and their names on the page.
const BGP: [(&str, &str); 7] = [
    (
        "node cut off silently",
        "a node loses power, or its link loses every packet",
    ),
    ("one Pod unready", "a Pod becomes unready"),
    (
        "node excluded from load balancers",
        "a node is drained: excluded from load balancers",
    ),
    (
        "planned restart of one node's announcer",
        "ferrolb restarts as planned: rollout, upgrade",
    ),
    (
        "SIGKILL of it, back after 1 s",
        "ferrolb is killed, and back after 1 s",
    ),
    (
        "router's bgpd killed, back after 2 s",
        "the router's bgpd is killed, and back after 2 s",
    ),
    ("API server down 12 s", "the API server is down for 12 s"),
];

/// Events of the benchmark `layer2`, and their names on the page.
const LAYER2: [(&str, &str); 5] = [
    ("node dead", "the owner loses power or its link"),
    ("rollout", "ferrolb-layer2 is rolled out"),
    (
        "process stopped",
        "the owner's process is stopped, and starts again",
    ),
    (
        "process killed, back after 1 s",
        "the owner's process is killed, and back after 1 s",
    ),
    (
        "node excluded",
        "the owner is drained: excluded from load balancers",
    ),
];

/// The cell of a benchmark as a number.
fn number(row: &Row, column: usize) -> Result<f64> {
    let cell = row.cells.get(column).context("a column is missing")?;
    let number = cell.replace(',', "").parse();
    number.with_context(|| format!("{}: {cell:?} is no number", row.name))
}

/// For how long new connections failed.
fn seconds(failed: f64, milliseconds: f64) -> String {
    if failed == 0.0 {
        "0".to_owned()
    } else if milliseconds < 50.0 {
        "under 0.1 s".to_owned()
    } else {
        format!("{:.1} s", milliseconds / 1000.0)
    }
}

/// What clients lose in an event, by failure detection.
fn bgp_row(measured: &[Row], event: &str, name: &str) -> Result<Row> {
    let cells = DETECTIONS.iter().map(|detection| {
        let mut rows = measured.iter();
        let found = rows.find(|row| row.name == *detection && row.cells[0] == event);
        let found = found.with_context(|| format!("{FROM} has no row {detection}, {event}"))?;
        let failing = seconds(number(found, 2)?, number(found, 3)?);
        let broken = number(found, 5)?;
        Ok(match (failing.as_str(), broken) {
            ("0", 0.0) => "nothing".to_owned(),
            _ => format!("{failing}; {broken} %"),
        })
    });
    let cells = cells.collect::<Result<Vec<String>>>()?;
    Ok(Row {
        name: name.to_owned(),
        cells,
    })
}

fn layer2_row(measured: &[Row], event: &str, name: &str) -> Result<Row> {
    let mut rows = measured.iter();
    let found = rows.find(|row| row.name == "ferrolb" && row.cells[0] == event);
    let found = found.with_context(|| format!("{FROM} has no row ferrolb, {event}"))?;
    let failed = number(found, 5)?;
    let usually = seconds(failed, number(found, 2)?);
    let new = match usually.as_str() {
        "0" => "0".to_owned(),
        "under 0.1 s" => format!("{failed} of {} failed", found.cells[4]),
        usually => format!("{usually}, at most {}", seconds(failed, number(found, 3)?)),
    };
    let percent = 100.0 * number(found, 7)? / number(found, 6)?;
    Ok(Row {
        name: name.to_owned(),
        cells: vec![new, format!("{percent:.0} %")],
    })
}

#[test]
fn what_clients_lose_is_what_the_benchmarks_measured() -> Result<()> {
    let measured = table(FROM, "### traffic")?;
    let mut rows = Vec::new();
    for (event, name) in BGP {
        rows.push(bgp_row(&measured, event, name)?);
    }
    let measured = table(FROM, "### layer2")?;
    for (event, name) in LAYER2 {
        rows.push(layer2_row(&measured, event, name)?);
    }
    check(TO, &rows)
}

#[test]
fn a_loss_is_shown_in_seconds_and_percent() -> Result<()> {
    let row = |cells: &[&str]| Row::new("hold time 9 s", cells);
    let of = |detection: &str, cells: &[&str]| Row::new(detection, cells);
    let quiet = ["e", "2,000", "0", "0", "100", "0"];
    let measured = [
        row(&["e", "3,000", "892", "8,894", "100", "47"]),
        of(DETECTIONS[1], &quiet),
        of(DETECTIONS[2], &["e", "2,000", "1", "0", "100", "50"]),
        of(DETECTIONS[3], &["e", "2,000", "0", "0", "100", "45"]),
    ];
    let cells = bgp_row(&measured, "e", "E")?.cells;
    assert_eq!(
        cells,
        ["8.9 s; 47 %", "nothing", "under 0.1 s; 50 %", "0; 45 %"]
    );
    assert!(bgp_row(&measured, "other", "E").is_err());
    assert!(bgp_row(&[row(&["e", "x"])], "e", "E").is_err());
    let dead = [
        "dead", "20", "341.0", "399", "6,385", "673", "1,000", "1,000",
    ];
    let measured = [Row::new("ferrolb", &dead)];
    let cells = layer2_row(&measured, "dead", "E")?.cells;
    assert_eq!(cells, ["0.3 s, at most 0.4 s", "100 %"]);
    Ok(())
}
