//! Generates `docs/bgp-errors.md`: our reactions next to those of four engines, and each rule with
//! the tests named after it. UPDATE_DOCS=1 writes the page; otherwise the test compares it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::replay::{Case, cases, reaction};

/// The most octets of NOTIFICATION data shown.
const DATA_SHOWN: usize = 6;

/// The effect of a reaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Route and session survive.
    Kept,
    Withdrawn,
    /// Closed without a NOTIFICATION.
    Closed,
    /// NOTIFICATION with code and subcode.
    Notified(String),
}

/// The first code and subcode (`3/5`) in a text.
fn code(text: &str) -> Option<String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let is_code = |word: &&str| {
        word.split_once('/')
            .is_some_and(|(code, subcode)| digits(code) && digits(subcode))
    };
    text.split([' ', ';']).find(is_code).map(str::to_owned)
}

fn outcome(reaction: &str) -> Outcome {
    if let Some(code) = code(reaction) {
        return Outcome::Notified(code);
    }
    match reaction
        .split_once([' ', ','])
        .map_or(reaction, |(first, _)| first)
    {
        "TaW" => Outcome::Withdrawn,
        "close" => Outcome::Closed,
        _ => Outcome::Kept,
    }
}

/// The outcome that the RFCs require; `None` if they leave a choice.
fn required(rfc: &str) -> Option<Outcome> {
    let mut text = String::new();
    let mut depth = 0;
    for letter in rfc.split(';').next().unwrap_or_default().chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => text.push(letter),
            _ => {}
        }
    }
    let choice = [" or ", " / ", "optional", "reset/"];
    match choice.iter().any(|word| text.contains(word)) {
        true => None,
        false => Some(outcome(text.trim())),
    }
}

/// Whether no other outcome is more common among the engines.
fn is_most_common(ours: &Outcome, engines: &[&str]) -> bool {
    let mut counts: BTreeMap<Outcome, u32> = BTreeMap::new();
    for engine in engines {
        *counts.entry(outcome(engine)).or_default() += 1;
    }
    counts
        .get(ours)
        .is_some_and(|count| Some(count) == counts.values().max())
}

/// A reaction with its data truncated, in Markdown.
fn shown(reaction: &str) -> String {
    match reaction.split_once(' ') {
        Some((code, data))
            if code.contains('/') && data.chars().all(|c| c.is_ascii_hexdigit() || c == '…') =>
        {
            match data
                .get(..2 * DATA_SHOWN)
                .filter(|start| start.len() < data.len())
            {
                Some(start) => format!("{code} `{start}…`"),
                None => format!("{code} `{data}`"),
            }
        }
        _ => reaction.to_owned(),
    }
}

fn row(case: &Case, reaction: &str) -> String {
    let engines = case.engines.map(shown).join(" | ");
    let (name, ours, rfc, why) = (case.name, shown(reaction), shown(case.rfc), case.why);
    format!("| {name} | **{ours}** | {rfc} | {engines} | {why} |\n")
}

/// Appends the table of one kind of cases.
fn table(page: &mut String, kind: &str, reactions: &[(Case, String)]) {
    page.push_str(
        "| message | ferrolb | RFCs | BIRD | FRR | GoBGP | OpenBGPD | why |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (case, reaction) in reactions.iter().filter(|(case, _)| case.kind == kind) {
        page.push_str(&row(case, reaction));
    }
}

fn crate_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: PathBuf, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// The tests of this crate whose name begins with a rule (`a2b_`), by rule.
fn tests_by_rule() -> BTreeMap<String, Vec<String>> {
    let mut texts = Vec::new();
    for folder in ["src", "tests"] {
        sources(crate_root().join(folder), &mut texts);
    }
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for after in texts
        .iter()
        .flat_map(|text| text.split("#[test]\n").skip(1))
    {
        let Some((name, _)) = after
            .trim_start()
            .strip_prefix("fn ")
            .and_then(|rest| rest.split_once('('))
        else {
            continue;
        };
        let Some((row, _)) = name.split_once('_') else {
            continue;
        };
        let number = row.trim_start_matches(['m', 'u', 'f', 'a']);
        if number.len() + 1 == row.len() && number.starts_with(|first: char| first.is_ascii_digit())
        {
            tests
                .entry(row.to_owned())
                .or_default()
                .push(name.to_owned());
        }
    }
    // read_dir has no defined order.
    tests.values_mut().for_each(|names| names.sort());
    tests
}

/// Appends the table of rules with their tests.
fn rules(page: &mut String) {
    page.push_str("| rule | error | reaction | source | tests |\n|---|---|---|---|---|\n");
    let mut tests = tests_by_rule();
    for line in include_str!("../fixtures/error_rules.tsv").lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [rule, wrong, action, says] = columns[..] else {
            panic!("not four columns: {line}");
        };
        let names = tests
            .remove(&rule.to_lowercase())
            .unwrap_or_else(|| panic!("rule {rule} has no test"));
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        writeln!(
            page,
            "| {rule} | {wrong} | {action} | {says} | {} |",
            names.join(" ")
        )
        .unwrap();
    }
    assert!(
        tests.is_empty(),
        "tests named after unknown rules: {tests:?}"
    );
}

#[test]
fn every_difference_has_a_reason_and_the_page_is_current() {
    let reactions: Vec<(Case, String)> = cases()
        .into_iter()
        .map(|case| {
            let reaction = reaction(&case);
            (case, reaction)
        })
        .collect();
    let (mut as_required, mut as_most) = (0, 0);
    let mut unexplained = String::new();
    for (case, reaction) in &reactions {
        let ours = outcome(reaction);
        let is_required = required(case.rfc).as_ref() == Some(&ours);
        let most = is_most_common(&ours, &case.engines);
        as_required += u32::from(is_required);
        as_most += u32::from(most);
        if !(is_required && most || case.why.contains("RFC ") && case.why.contains('§')) {
            writeln!(unexplained, "{}: {reaction}", case.name).unwrap();
        }
    }
    assert_eq!(
        unexplained, "",
        "each of these needs an RFC section in the column why"
    );

    let mut page = include_str!("introduction.md").to_owned();
    write!(
        page,
        "Of ferrolb's 146 reactions, the RFCs require {as_required}; in the other cases they leave \
         a choice, or ferrolb departs\nfrom them for the stated reason. {as_most} are the most \
         common reaction of the four engines.\n\n### UPDATE\n\n"
    )
    .unwrap();
    table(&mut page, "UPDATE", &reactions);
    page.push_str("\n### Headers and other messages, in Established\n\n");
    table(&mut page, "HEADER", &reactions);
    page.push_str("\n### OPEN\n\n");
    table(&mut page, "OPEN", &reactions);
    page.push_str(include_str!("rules.md"));
    rules(&mut page);

    let path = crate_root().join("../docs/bgp-errors.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("docs/ can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/bgp-errors.md is outdated: run UPDATE_DOCS=1 cargo test -p ferrolb-bgp --test \
         wire_cases"
    );
}
