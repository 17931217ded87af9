//! The documentation: every command of every page of docs/ runs as it stands there.

mod troubleshooting;

use std::collections::BTreeSet;

use anyhow::Result;
use ferrolb_interop_tests::book::pages_with_commands;

/// The pages with commands, and the test that runs them.
const PAGES: &[(&str, fn())] = &[
    (
        "docs/failures.md",
        troubleshooting::each_symptom_is_shown_by_a_command_and_ends_with_its_remedy,
    ),
    (
        "docs/troubleshooting.md",
        troubleshooting::each_symptom_is_shown_by_a_command_and_ends_with_its_remedy,
    ),
];

#[test]
fn every_page_with_commands_has_a_test() -> Result<()> {
    let tested: BTreeSet<String> = PAGES.iter().map(|(page, _)| (*page).to_owned()).collect();
    let pages: BTreeSet<String> = pages_with_commands()?.into_iter().collect();
    assert_eq!(pages, tested);
    Ok(())
}
