//! The documentation: every command of every page of docs/ runs as it stands there.

mod facts;
mod gateway;
mod networks;
mod operate;
mod routers;
mod start;
mod troubleshooting;

use std::collections::BTreeSet;

use anyhow::Result;
use ferrolb_interop_tests::book::pages_with_commands;

/// The pages with commands, and the test that runs them.
const PAGES: &[(&str, fn())] = &[
    ("docs/announce.md", operate::pages_run_on_a_cluster),
    ("docs/clouds.md", gateway::clouds_and_gateways),
    ("docs/drain.md", operate::pages_run_on_a_cluster),
    (
        "docs/failures.md",
        troubleshooting::each_symptom_is_shown_by_a_command_and_ends_with_its_remedy,
    ),
    (
        "docs/from-metallb.md",
        start::metallb::the_reference_of_the_migration_runs_on_metallbs_objects,
    ),
    ("docs/gateway-api.md", gateway::clouds_and_gateways),
    ("docs/install.md", operate::pages_run_on_a_cluster),
    (
        "docs/layer2/networks.md",
        networks::what_a_network_must_allow,
    ),
    ("docs/layer2/operate.md", operate::pages_run_on_a_cluster),
    ("docs/monitor.md", operate::pages_run_on_a_cluster),
    ("docs/observe.md", operate::pages_run_on_a_cluster),
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
    ("docs/security.md", facts::security_and_versions),
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
    (
        "docs/troubleshooting.md",
        troubleshooting::each_symptom_is_shown_by_a_command_and_ends_with_its_remedy,
    ),
    ("docs/ui.md", operate::pages_run_on_a_cluster),
    ("docs/validate.md", operate::pages_run_on_a_cluster),
    ("docs/versions.md", facts::security_and_versions),
    ("docs/without-a-cluster.md", operate::pages_run_on_hosts),
];

#[test]
fn every_page_with_commands_has_a_test() -> Result<()> {
    let tested: BTreeSet<String> = PAGES.iter().map(|(page, _)| (*page).to_owned()).collect();
    let pages: BTreeSet<String> = pages_with_commands()?.into_iter().collect();
    assert_eq!(pages, tested);
    Ok(())
}
