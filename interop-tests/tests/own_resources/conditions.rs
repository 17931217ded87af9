//! What the leading allocator writes about objects that it refuses: a condition into ferrolb's own,
//! an Event about MetalLB's.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ALLOCATOR_USER, ControlPlane, Ferrolb, Metallb, Nodes};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::scenario::scenario;

use super::{TIMEOUT, object};

/// A kind, the version of MetalLB's, and a spec that is valid in both groups.
const BOTH_GROUPS: [(&str, &str, &str); 6] = [
    ("IPAddressPool", "v1beta1", "{addresses: [192.0.2.0/28]}"),
    (
        "BGPPeer",
        "v1beta2",
        "{myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1}",
    ),
    ("BFDProfile", "v1beta1", "{}"),
    ("BGPAdvertisement", "v1beta1", "{}"),
    ("L2Advertisement", "v1beta1", "{}"),
    (
        "Community",
        "v1beta1",
        "{communities: [{name: near, value: '64700:1'}]}",
    ),
];

/// Applies the objects named `same`, of ferrolb's group or MetalLB's, or deletes them.
fn apply_all(cp: &ControlPlane<'_>, own: bool) -> Result<()> {
    let objects = BOTH_GROUPS.map(|(kind, version, spec)| {
        let ours = object(kind, "same", spec);
        if own {
            ours
        } else {
            ours.replace("ferrolb.io/v1alpha1", &format!("metallb.io/{version}"))
        }
    });
    cp.apply(&manifest::join(&objects.each_ref().map(String::as_str)))
}

fn delete_all(cp: &ControlPlane<'_>, own: bool) -> Result<()> {
    for (kind, version, _) in BOTH_GROUPS {
        let resource = if own {
            format!("{kind}.v1alpha1.ferrolb.io")
        } else {
            format!("{kind}.{version}.metallb.io")
        };
        cp.kubectl(&["delete", &resource, "same", "-n", manifest::NAMESPACE])?;
    }
    Ok(())
}

/// Waits until ferrolb's object has a condition with this status and reason. Returns the object.
fn await_condition(
    cp: &ControlPlane<'_>,
    kind: &str,
    name: &str,
    expected: (&str, &str),
) -> Result<serde_json::Value> {
    let resource = format!("{kind}.v1alpha1.ferrolb.io");
    let what = format!("{kind} {name} is {expected:?}");
    eventually(what, TIMEOUT, || {
        let found = cp.get(&[&resource, name, "-n", manifest::NAMESPACE])?;
        let condition = &found["status"]["conditions"][0];
        let is_expected = condition["type"] == "Accepted"
            && condition["status"] == expected.0
            && condition["reason"] == expected.1;
        ensure!(is_expected, "{}", found["status"]);
        Ok(found)
    })
}

/// Waits until each of MetalLB's objects has one Event with this reason.
fn await_events(cp: &ControlPlane<'_>, reason: &str) -> Result<()> {
    let expected: BTreeSet<&str> = BOTH_GROUPS.iter().map(|(kind, ..)| *kind).collect();
    eventually(format!("Events {reason}"), TIMEOUT, || {
        let events = cp.get(&["events", "-n", manifest::NAMESPACE])?;
        let events = events["items"].as_array().context("no list")?.iter();
        let about = events
            .filter(|event| event["reason"] == reason)
            .map(|event| &event["involvedObject"])
            .filter(|object| object["name"] == "same");
        let of_metallb = |object: &serde_json::Value| {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            version.starts_with("metallb.io/")
        };
        let kinds = about.filter(|object| of_metallb(object));
        let mut kinds: Vec<&str> = kinds.filter_map(|object| object["kind"].as_str()).collect();
        kinds.sort_unstable();
        ensure!(
            kinds.iter().copied().eq(expected.iter().copied()),
            "{kinds:?}"
        );
        Ok(())
    })
}

#[test]
fn a_refused_object_of_ferrolbs_has_a_condition_and_one_of_metallbs_an_event() {
    scenario("conditions", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.install_ferrolb_crds()?;
        cp.install_ferrolb_rbac()?;
        let mut allocator = Ferrolb::allocator(&cp, "allocator1")?;
        allocator.await_ready()?;
        the_younger_of_one_name_is_refused(&cp)?;
        an_overlapping_pool_and_an_invalid_peer_say_so(&cp)?;
        each_condition_cost_a_write_for_each_transition(&cp)
    });
}

fn the_younger_of_one_name_is_refused(cp: &ControlPlane<'_>) -> Result<()> {
    // MetalLB's are older, or of the same second.
    apply_all(cp, false)?;
    apply_all(cp, true)?;
    for (kind, ..) in BOTH_GROUPS {
        await_condition(cp, kind, "same", ("False", "NameInUse"))?;
    }
    let shown = cp.kubectl(&["get", "lbpeer", "same", "-n", manifest::NAMESPACE])?;
    ensure!(
        shown.contains("ACCEPTED") && shown.contains("False"),
        "{shown}"
    );
    delete_all(cp, false)?;
    for (kind, ..) in BOTH_GROUPS {
        await_condition(cp, kind, "same", ("True", "Accepted"))?;
    }
    // Now ferrolb's are older.
    apply_all(cp, false)?;
    await_events(cp, "NameInUse")?;
    delete_all(cp, true)?;
    await_events(cp, "Accepted")?;
    delete_all(cp, false)
}

fn an_overlapping_pool_and_an_invalid_peer_say_so(cp: &ControlPlane<'_>) -> Result<()> {
    let pool = |name: &str, addresses: &str| {
        object(
            "IPAddressPool",
            name,
            &format!("{{addresses: [{addresses}]}}"),
        )
    };
    let profile = "{myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1, bfdProfile: fast}";
    cp.apply(&manifest::join(&[
        &pool("first", "192.0.2.0/28"),
        &pool("second", "192.0.2.32/28"),
        &object("BGPPeer", "tor", profile),
        &object("BGPAdvertisement", "fine", "{}"),
    ]))?;
    await_condition(cp, "BGPPeer", "tor", ("False", "Invalid"))?;
    cp.apply(&object("BFDProfile", "fast", "{}"))?;
    await_condition(cp, "BGPPeer", "tor", ("True", "Accepted"))?;

    // The first by name is edited, and takes precedence over the one that it overlaps now.
    cp.apply(&pool("first", "192.0.2.0/26"))?;
    let refused = await_condition(cp, "IPAddressPool", "second", ("False", "Overlap"))?;
    let status = &refused["status"];
    ensure!(status["availableIPv4"].is_null(), "{status}");
    let message = status["conditions"][0]["message"].as_str();
    ensure!(
        message.is_some_and(|text| text.contains("192.0.2.32")),
        "{status}"
    );
    cp.apply(&pool("second", "192.0.2.64/28"))?;
    let accepted = await_condition(cp, "IPAddressPool", "second", ("True", "Accepted"))?;
    ensure!(accepted["status"]["availableIPv4"] == 16, "{accepted}");
    Ok(())
}

fn each_condition_cost_a_write_for_each_transition(cp: &ControlPlane<'_>) -> Result<()> {
    let writes = cp.writes()?;
    let of = |resource: &str, name: &str| {
        let of_object = writes.iter().filter(|write| {
            write.user == ALLOCATOR_USER && write.resource == resource && write.name == name
        });
        of_object.count()
    };
    let found = [
        of("bgppeers/status", "same"),
        of("communities/status", "same"),
        of("bgppeers/status", "tor"),
        of("bgpadvertisements/status", "fine"),
    ];
    ensure!(found == [2, 2, 2, 0], "{found:?}");
    let denied = writes.iter().find(|write| write.status == 403);
    ensure!(denied.is_none(), "{denied:?}");
    Ok(())
}
