//! docs/metallb-behaviours.md has one row for each of MetalLB's behaviours, with tests that exist;
//! docs/kubernetes-e2e.md one for each of Kubernetes' cases for load balancers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The numbers of the rows.
const NUMBERS: std::ops::RangeInclusive<u16> = 1..=252;

/// The cases that the tests of `cli/plan` read, whose rules are in their snapshots.
const CASES: &str = "daemon/tests/plans/metallb";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/metallb-behaviours.md")).expect("the page")
}

/// A row of the table: `| number | behaviour | ferrolb | shown by | note |`.
struct Row<'a> {
    number: u16,
    behaviour: &'a str,
    ferrolb: &'a str,
    shown_by: &'a str,
    note: &'a str,
}

/// The rows of all tables that begin with a number.
fn rows(page: &str) -> Vec<Row<'_>> {
    let cells = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line
            .strip_prefix('|')?
            .trim_end()
            .trim_end_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let number = cells[0].parse().ok()?;
        let [_, behaviour, ferrolb, shown_by, note] = cells[..] else {
            panic!("row {number} has {} cells, not 5", cells.len());
        };
        Some(Row {
            number,
            behaviour,
            ferrolb,
            shown_by,
            note,
        })
    });
    cells.collect()
}

/// The tests that a row names, each in backticks.
fn tests<'a>(row: &Row<'a>) -> Vec<&'a str> {
    row.shown_by.split('`').skip(1).step_by(2).collect()
}

/// Why a test does not exist: `file::function`, or a file of [`CASES`].
fn missing(test: &str) -> Option<String> {
    let Some((file, function)) = test.split_once("::") else {
        let exists = test.starts_with(CASES) && root().join(test).is_file();
        return (!exists).then(|| format!("there is no case {test}"));
    };
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    let defined = text.contains(&format!("fn {function}("));
    (!defined).then(|| format!("there is no function {function} in {file}"))
}

#[test]
fn each_behaviour_of_metallb_has_one_row() {
    let page = page();
    let numbers: Vec<u16> = rows(&page).iter().map(|row| row.number).collect();
    let expected: Vec<u16> = NUMBERS.collect();
    let lacking: Vec<&u16> = expected.iter().filter(|n| !numbers.contains(n)).collect();
    assert!(lacking.is_empty(), "no row for {lacking:?}");
    assert_eq!(numbers, expected, "one row for each number, in order");
}

#[test]
fn each_row_has_its_tests_or_its_reason() {
    let page = page();
    let mut wrong = Vec::new();
    for row in rows(&page) {
        let (number, tests) = (row.number, tests(&row));
        let rest = row.shown_by.replace(['`', ',', ' '], "");
        if rest != tests.concat() {
            wrong.push(format!("{number}: a text beside the tests: {rest}"));
        }
        wrong.extend(
            tests
                .iter()
                .filter_map(|test| Some(format!("{number}: {}", missing(test)?))),
        );
        let complete = match row.ferrolb {
            "same" => !tests.is_empty(),
            "better" => !tests.is_empty() && !row.note.is_empty(),
            "not" | "not yet" => !row.note.is_empty(),
            _ => false,
        };
        if !complete || row.behaviour.is_empty() {
            wrong.push(format!(
                "{number}: \"{}\": write same (with tests), better (with tests and the \
                 difference), not or not yet (with the reason)",
                row.ferrolb
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_case_is_named_by_a_row() {
    let page = page();
    let rows = rows(&page);
    let named: BTreeSet<&str> = rows.iter().flat_map(tests).collect();
    for folder in fs::read_dir(root().join(CASES)).expect("folders of cases") {
        let folder = folder.expect("a folder");
        for case in fs::read_dir(folder.path()).expect("cases") {
            let case = case.expect("a case").file_name();
            let (folder, case) = (folder.file_name(), case.display());
            let path = format!("{CASES}/{}/{case}", folder.display());
            let base = path.ends_with("/base.yaml");
            assert!(base || named.contains(path.as_str()), "no row names {path}");
        }
    }
}

/// The lab's tests of Kubernetes' cases.
const KUBERNETES_CASES: &str = "interop-tests/tests/e2e_load_balancers";

/// The cells of a table's row, without those of its head.
fn cells(line: &str) -> Option<Vec<&str>> {
    let cells = line.strip_prefix("| ")?.trim_end_matches('|').split('|');
    let cells: Vec<&str> = cells.map(str::trim).collect();
    (cells[0] != "case").then_some(cells)
}

fn kubernetes_page() -> String {
    fs::read_to_string(root().join("docs/kubernetes-e2e.md")).expect("the page")
}

#[test]
fn each_case_of_kubernetes_has_its_tests_or_its_reason() {
    let page = kubernetes_page();
    let rows: Vec<Vec<&str>> = page.lines().filter_map(cells).collect();
    assert!(rows.len() > 12, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let [case, shown_by, note] = row[..] else {
            panic!("{row:?} has not 3 cells");
        };
        let test = shown_by.trim_matches('`');
        if test.is_empty() {
            if note.is_empty() {
                wrong.push(format!("{case}: neither a test nor a reason"));
            }
        } else if let Some(reason) = missing(&format!("{KUBERNETES_CASES}/{test}")) {
            wrong.push(format!("{case}: {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_test_of_kubernetes_cases_is_named_by_a_row() {
    let page = kubernetes_page();
    let main = fs::read_to_string(root().join(KUBERNETES_CASES).join("main.rs")).expect("main.rs");
    let (_, lists) = main.split_once("cases![").expect("the first list");
    let tests = lists.lines().filter_map(|line| {
        let (module, test) = line.trim().strip_suffix(',')?.split_once("::")?;
        Some(format!("`{module}.rs::{test}`"))
    });
    let tests: Vec<String> = tests.filter(|test| !test.contains('"')).collect();
    assert!(tests.len() > 12, "{tests:?}");
    for test in tests {
        assert!(page.contains(&test), "no row names {test}");
    }
}

#[test]
fn the_page_has_the_cases_of_the_labs_kubernetes() {
    let lab = fs::read_to_string(root().join("interop-tests/src/kube/mod.rs")).expect("mod.rs");
    let (_, version) = lab
        .split_once("pub const VERSION: &str = \"")
        .expect("VERSION");
    let version = version.split('"').next().expect("a literal");
    let page = kubernetes_page();
    assert!(
        page.contains(&format!("Kubernetes {version} has")),
        "the lab runs {version}: compare the page with that version's suites"
    );
}
