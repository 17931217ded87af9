//! The documentation: every command of every page of docs/ runs as it stands there.

mod routers;

use std::collections::BTreeSet;

use anyhow::Result;
use ferrolb_interop_tests::book::pages_with_commands;

/// The pages with commands, and the test that runs them.
const PAGES: &[(&str, fn())] = &[
    ("docs/router-config.md", routers::generated_only),
    ("docs/routers/bird.md", routers::bird),
    ("docs/routers/cumulus.md", routers::systems_with_frr_inside),
    ("docs/routers/eos.md", routers::generated_only),
    ("docs/routers/exabgp.md", routers::exabgp),
    ("docs/routers/frr.md", routers::frr),
    ("docs/routers/gobgp.md", routers::gobgp),
    ("docs/routers/junos.md", routers::generated_only),
    ("docs/routers/nxos.md", routers::generated_only),
    ("docs/routers/openbgpd.md", routers::openbgpd),
    ("docs/routers/routeros.md", routers::generated_only),
    ("docs/routers/sonic.md", routers::systems_with_frr_inside),
    ("docs/routers/vyos.md", routers::systems_with_frr_inside),
];

#[test]
fn every_page_with_commands_has_a_test() -> Result<()> {
    let tested: BTreeSet<String> = PAGES.iter().map(|(page, _)| (*page).to_owned()).collect();
    let pages: BTreeSet<String> = pages_with_commands()?.into_iter().collect();
    assert_eq!(pages, tested);
    Ok(())
}
