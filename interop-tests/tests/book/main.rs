//! The documentation: every command of every page of docs/ runs as it stands there.

mod start;

use std::collections::BTreeSet;

use anyhow::Result;
use ferrolb_interop_tests::book::pages_with_commands;

/// The pages with commands, and the test that runs them.
const PAGES: &[(&str, fn())] = &[
    (
        "docs/from-metallb.md",
        start::metallb::the_reference_of_the_migration_runs_on_metallbs_objects,
    ),
    (
        "docs/start/bgp.md",
        start::from_nothing::a_service_works_by_layer_2_and_then_by_bgp,
    ),
    (
        "docs/start/layer2.md",
        start::from_nothing::a_service_works_by_layer_2_and_then_by_bgp,
    ),
    (
        "docs/start/metallb.md",
        start::metallb::a_cluster_moves_from_metallb,
    ),
];

#[test]
fn every_page_with_commands_has_a_test() -> Result<()> {
    let tested: BTreeSet<String> = PAGES.iter().map(|(page, _)| (*page).to_owned()).collect();
    let pages: BTreeSet<String> = pages_with_commands()?.into_iter().collect();
    assert_eq!(pages, tested);
    Ok(())
}
