//! The objects that have ferrolb's state: BGPSessions, and with `--metallb-status` those of
//! MetalLB. A real API server, a real router, and exactly the rights of `deploy/manifests`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{
    ALLOCATOR_USER, ANNOUNCER_USER, ControlPlane, DataPath, Ferrolb, Metallb, Nodes,
};
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, NAMESPACE, service};
use ferrolb_interop_tests::router::{Bird, Router, await_kernel};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology, ipv4_addresses};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);
const PREFIX: &str = "203.0.113.10/32";
/// Three times `drain.time`.
const AFTER_DRAIN: Duration = Duration::from_secs(6);
/// Services of the measurement.
const SERVICES: usize = 100;

/// A cluster of objects with ferrolb on its nodes, and BIRD, which exports nothing to them.
struct Lab<'lab> {
    announcers: Vec<Ferrolb<'lab>>,
    allocator: Ferrolb<'lab>,
    router: Bird<'lab>,
    _data_path: DataPath,
    cp: ControlPlane<'lab>,
    topology: &'lab Topology,
}

impl<'lab> Lab<'lab> {
    fn start(
        scratch: &'lab Scratch,
        topology: &'lab Topology,
        configuration: &str,
        own_crds: bool,
    ) -> Result<Self> {
        let mut router = Bird::new(scratch, &topology.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        if own_crds {
            cp.install_ferrolb_crds()?;
        }
        cp.install_ferrolb_rbac()?;
        cp.apply(configuration)?;
        let data_path = DataPath::start(&cp, &topology.nodes, "web")?;
        let allocator = Ferrolb::allocator(&cp, "allocator1")?;
        let nodes = topology.nodes.iter();
        let announcers: Result<_> = nodes.map(|node| Ferrolb::announcer(&cp, node)).collect();
        Ok(Self {
            announcers: announcers?,
            allocator,
            router,
            _data_path: data_path,
            cp,
            topology,
        })
    }

    fn await_ready(&mut self) -> Result<()> {
        let processes = self.announcers.iter_mut().chain([&mut self.allocator]);
        for process in processes {
            process.await_ready()?;
        }
        Ok(())
    }

    /// Waits until the status of a session passes a check.
    fn await_status(
        &self,
        what: &str,
        node: &str,
        check: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(format!("{node}: {what}"), TIMEOUT, || {
            let object = self.cp.get(&["bgpsessions", &format!("{node}.tor")])?;
            ensure!(check(&object["status"]), "{object}");
            anyhow::Ok(object)
        })
    }

    fn await_established(&self, node: &str) -> Result<Value> {
        self.await_status("established", node, |status| status["bgp"] == "Established")
    }

    fn set_node_ready(&self, node: &str, ready: &str) -> Result<()> {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let patch = json!({"status": {"conditions": conditions}}).to_string();
        let options = ["--subresource=status", "--type=strategic", "-p", &patch];
        self.cp
            .kubectl(&[&["patch", "node", node][..], &options].concat())
            .map(drop)
    }

    /// The number of writes by user and resource, none of them denied.
    fn writes(&self) -> Result<BTreeMap<(String, String), usize>> {
        let mut writes = BTreeMap::new();
        for write in self.cp.writes()? {
            ensure!(write.status != 403, "{write:?}");
            *writes.entry((write.user, write.resource)).or_default() += 1;
        }
        Ok(writes)
    }

    fn count(&self, resource: &str) -> Result<usize> {
        let list = self.cp.get(&[resource, "-A"])?;
        Ok(list["items"].as_array().context("no items")?.len())
    }
}

fn configuration() -> String {
    manifest::join(&[
        &manifest::ferrolb_peer(TOR_IPV4, ", holdTime: 3s, drain: {time: 2s}"),
        &manifest::pool(PREFIX),
        &manifest::advertisement(""),
        &service("web", "", ""),
    ])
}

#[test]
fn kubectl_shows_each_session_of_each_node_as_it_is() {
    scenario("sessions", |scratch| {
        let topology = Topology::new(2)?;
        let mut lab = Lab::start(scratch, &topology, &configuration(), true)?;
        lab.await_ready()?;
        established_sessions_have_objects_with_columns(&lab)?;
        a_notification_of_the_router_is_named(&lab)?;
        the_leader_marks_sessions_of_a_node_that_is_not_ready(&lab)?;
        a_drain_keeps_the_route_that_no_other_session_replaces(&lab)?;
        a_drain_keeps_the_route_while_the_other_node_is_dead(&mut lab)?;
        a_restarted_announcer_takes_its_objects_over(&mut lab)?;
        objects_go_with_the_node_and_the_peer(&lab)?;
        for ((user, resource), count) in lab.writes()? {
            ensure!(
                user != ANNOUNCER_USER || ["bgpsessions", "events"].contains(&&*resource),
                "{count} writes of {resource}"
            );
            ensure!(
                // Two nodes stopped being Ready. Each may need three attempts.
                user != ALLOCATOR_USER || resource != "bgpsessions" || count <= 6,
                "{count} writes of the leader"
            );
        }
        Ok(())
    });
}

fn established_sessions_have_objects_with_columns(lab: &Lab<'_>) -> Result<()> {
    let peers = ipv4_addresses(&lab.topology.nodes.iter().collect::<Vec<_>>());
    eventually("sessions", TIMEOUT, || {
        let sessions = lab.router.sessions()?;
        ensure!(
            sessions.keys().copied().eq(peers.iter().copied()),
            "{sessions:?}"
        );
        anyhow::Ok(())
    })?;
    let since = Instant::now();
    for node in &lab.topology.nodes {
        let object = lab.await_established(&node.name)?;
        let owner = &object["metadata"]["ownerReferences"][0];
        let uid = lab.cp.get(&["node", &node.name])?["metadata"]["uid"].clone();
        ensure!(owner["kind"] == "Node" && owner["uid"] == uid, "{object}");
        let status = &object["status"];
        ensure!(
            status["node"] == node.name && status["peer"] == "tor",
            "{status}"
        );
        ensure!(status["address"] == TOR_IPV4.to_string(), "{status}");
        let negotiated = &status["negotiated"];
        ensure!(
            negotiated["peerASN"] == 64600 && negotiated["holdTime"] == "3s",
            "{status}"
        );
    }
    println!("objects of both nodes within {:?}", since.elapsed());
    let shown = lab.cp.kubectl(&["get", "bgpsessions"])?;
    let mut lines = shown.lines();
    let titles: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        titles == ["NAME", "NODE", "PEER", "VRF", "BGP", "BFD", "SINCE"],
        "{shown}"
    );
    let first: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        first.starts_with(&["node1.tor", "node1", "tor", "Established"]),
        "{shown}"
    );
    // Its first counters: the next ones are written a minute later, after what the leader writes.
    lab.await_status("its prefix", "node1", |status| {
        status["prefixesSent"] == 1 && status["digest"].is_string()
    })
    .map(drop)
}

fn a_notification_of_the_router_is_named(lab: &Lab<'_>) -> Result<()> {
    let before = lab.await_established("node1")?;
    let node = &lab.topology.nodes[0];
    lab.router.shut_down(node.ipv4.into(), "new line card")?;
    let object = lab.await_status("the NOTIFICATION", "node1", |status| {
        status["lastNotification"]["text"] == "new line card"
    })?;
    let status = &object["status"];
    let notification = &status["lastNotification"];
    ensure!(
        (&notification["code"], &notification["subcode"]) == (&json!(6), &json!(2))
            && notification["sent"] == false,
        "{status}"
    );
    // In whole seconds: both can be in the same one.
    let since = |status: &Value| status["since"].as_str().map(str::to_owned);
    ensure!(
        since(status) >= since(&before["status"]),
        "{status} {before}"
    );
    lab.router.birdc("enable all")?;
    let object = lab.await_established("node1")?;
    ensure!(
        object["status"]["lastNotification"] == *notification,
        "{object}"
    );
    let other = lab.await_established("node2")?;
    ensure!(other["status"]["lastNotification"].is_null(), "{other}");
    Ok(())
}

fn the_leader_marks_sessions_of_a_node_that_is_not_ready(lab: &Lab<'_>) -> Result<()> {
    lab.set_node_ready("node1", "False")?;
    let object = lab.await_status("unknown", "node1", |status| status["bgp"] == "Unknown")?;
    ensure!(object["status"]["negotiated"].is_null(), "{object}");
    ensure!(
        object["status"]["unknownReason"] == "NodeNotReady",
        "{object}"
    );
    let with_fields = ["bgpsessions", "node1.tor", "--show-managed-fields"];
    let managers = lab.cp.get(&with_fields)?["metadata"]["managedFields"].clone();
    let managers = managers.as_array().context("no managers")?;
    ensure!(
        managers.len() == 1 && managers[0]["manager"] == "ferrolb",
        "{managers:?}"
    );
    lab.await_established("node2")?;
    lab.set_node_ready("node1", "True")?;
    lab.await_established("node1").map(drop)
}

fn a_drain_keeps_the_route_that_no_other_session_replaces(lab: &Lab<'_>) -> Result<()> {
    let [other, drained] = &lab.topology.nodes[..] else {
        anyhow::bail!("not two nodes");
    };
    let tor = &lab.topology.tor;
    await_kernel(tor, PREFIX, &ipv4_addresses(&[other, drained]), TIMEOUT)?;
    other.uplink.cut()?;
    lab.await_status("down", &other.name, |status| status["bgp"] != "Established")?;
    await_kernel(tor, PREFIX, &ipv4_addresses(&[drained]), TIMEOUT)?;
    let label = format!("{EXCLUDE_LABEL}=");
    lab.cp.kubectl(&["label", "node", &drained.name, &label])?;
    lab.announcers[1].await_log(&["has no other path to", PREFIX], TIMEOUT)?;
    consistently("the last route", AFTER_DRAIN, || {
        let found = tor.kernel_next_hops(PREFIX)?;
        ensure!(found == ipv4_addresses(&[drained]), "{found:?}");
        Ok(())
    })?;
    other.uplink.restore()?;
    await_kernel(tor, PREFIX, &ipv4_addresses(&[other]), TIMEOUT)?;
    lab.cp.exclude_node(&drained.name, false)?;
    await_kernel(tor, PREFIX, &ipv4_addresses(&[other, drained]), TIMEOUT)
}

/// The Node of the dead announcer stops being Ready. No router shows its paths.
fn a_drain_keeps_the_route_while_the_other_node_is_dead(lab: &mut Lab<'_>) -> Result<()> {
    let [dead, drained] = &lab.topology.nodes[..] else {
        anyhow::bail!("not two nodes");
    };
    let tor = &lab.topology.tor;
    lab.await_established(&dead.name)?;
    lab.announcers[0].process().kill()?;
    dead.uplink.cut()?;
    lab.set_node_ready(&dead.name, "Unknown")?;
    lab.await_status("its Node is not Ready", &dead.name, |status| {
        status["unknownReason"] == "NodeNotReady"
    })?;
    await_kernel(tor, PREFIX, &ipv4_addresses(&[drained]), TIMEOUT)?;
    let waiting = || -> Result<usize> {
        let log = std::fs::read_to_string(lab.announcers[1].log())?;
        Ok(log.matches("has no other path to").count())
    };
    let before = waiting()?;
    lab.cp.exclude_node(&drained.name, true)?;
    eventually("the route stays after drain.time", TIMEOUT, || {
        ensure!(waiting()? > before, "not logged");
        anyhow::Ok(())
    })?;
    consistently("the last route", AFTER_DRAIN, || {
        let found = tor.kernel_next_hops(PREFIX)?;
        ensure!(found == ipv4_addresses(&[drained]), "{found:?}");
        Ok(())
    })?;
    dead.uplink.restore()?;
    lab.set_node_ready(&dead.name, "True")?;
    lab.announcers[0].start_again()?;
    await_kernel(tor, PREFIX, &ipv4_addresses(&[dead]), TIMEOUT)?;
    lab.cp.exclude_node(&drained.name, false)?;
    await_kernel(tor, PREFIX, &ipv4_addresses(&[dead, drained]), TIMEOUT)
}

fn a_restarted_announcer_takes_its_objects_over(lab: &mut Lab<'_>) -> Result<()> {
    let before = lab.await_established("node2")?;
    let announcer = &mut lab.announcers[1];
    announcer.process().terminate(TIMEOUT)?;
    lab.await_status("it ended", "node2", |status| {
        status["bgp"] == "Unknown" && status["unknownReason"] == "AnnouncerEnded"
    })?;
    lab.announcers[1].start_again()?;
    let after = lab.await_established("node2")?;
    ensure!(
        after["metadata"]["uid"] == before["metadata"]["uid"],
        "{before} {after}"
    );
    Ok(())
}

fn objects_go_with_the_node_and_the_peer(lab: &Lab<'_>) -> Result<()> {
    let await_names = |expected: &[&str]| {
        eventually(format!("only {expected:?}"), TIMEOUT, || {
            let names = lab.cp.kubectl(&["get", "bgpsessions", "-o", "name"])?;
            ensure!(names.lines().eq(expected.iter().copied()), "{names}");
            anyhow::Ok(())
        })
    };
    lab.cp.kubectl(&["delete", "node", "node2"])?;
    await_names(&["bgpsession.ferrolb.io/node1.tor"])?;
    lab.cp
        .kubectl(&["delete", "bgppeers.ferrolb.io", "tor", "-n", NAMESPACE])?;
    await_names(&[])
}

#[test]
fn without_the_crd_sessions_work_and_one_line_says_what_is_missing() {
    scenario("no-sessions", |scratch| {
        let topology = Topology::new(1)?;
        let configuration = manifest::join(&[
            &manifest::metallb_peer(""),
            &manifest::pool(PREFIX),
            &manifest::advertisement(""),
            &service("web", "", ""),
        ]);
        let mut lab = Lab::start(scratch, &topology, &configuration, false)?;
        lab.await_ready()?;
        let nodes = ipv4_addresses(&[&topology.nodes[0]]);
        await_kernel(&topology.tor, PREFIX, &nodes, TIMEOUT)?;
        let announcer = &lab.announcers[0];
        announcer.await_log(&["can't write BGPSessions", "ferrolb crds"], TIMEOUT)?;
        // Another change must not be another line.
        lab.router
            .shut_down(topology.nodes[0].ipv4.into(), "again")?;
        announcer.await_log(&["again"], TIMEOUT)?;
        lab.router.birdc("enable all")?;
        await_kernel(&topology.tor, PREFIX, &nodes, TIMEOUT)?;
        let log = std::fs::read_to_string(announcer.log())?;
        let lines = log.matches("can't write BGPSessions").count();
        ensure!(lines == 1, "{lines} lines: {log}");
        Ok(())
    });
}

/// The rules of 2-rbac.yaml that are comments there, as they are there.
fn status_rules(role: &str) -> Result<String> {
    let path = ferrolb_interop_tests::kube::manifests().join("2-rbac.yaml");
    let shipped = std::fs::read_to_string(path)?;
    let documents = shipped.split("---\n");
    let name = format!("name: {role}-config\n");
    let mut roles = documents.filter(|text| text.contains("\nkind: Role\n"));
    let role = roles
        .find(|text| text.contains(&name))
        .context(name.clone())?;
    let lines = role.lines().map(|line| match line.strip_prefix("  # ") {
        Some(rule) if rule.starts_with(['-', ' ']) => format!("  {rule}"),
        _ => line.to_owned(),
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn metallbs_status_objects_exist_if_requested_and_cost_writes_then_only() {
    scenario("metallb-status", |scratch| {
        let topology = Topology::new(3)?;
        let configuration = manifest::join(&[
            &manifest::ferrolb_peer(TOR_IPV4, ""),
            &manifest::pool("203.0.113.0/24"),
            &manifest::advertisement(""),
        ]);
        let mut lab = Lab::start(scratch, &topology, &configuration, true)?;
        for role in ["ferrolb-allocator", "ferrolb-announcer"] {
            lab.cp.apply(&status_rules(role)?)?;
        }
        lab.await_ready()?;
        let services: Vec<String> = (0..SERVICES)
            .map(|number| service(&format!("web-{number}"), "", ""))
            .collect();
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        lab.cp.apply(&manifest::join(&services))?;
        await_announced(&lab)?;
        let without = lab.writes()?;
        ensure!(lab.count("servicebgpstatuses")? == 0, "not requested");
        ensure!(lab.count("configurationstates")? == 0, "not requested");

        let processes = lab.announcers.iter_mut().chain([&mut lab.allocator]);
        for process in processes {
            process.process().terminate(TIMEOUT)?;
            process.add_argument("--metallb-status");
            process.start_again()?;
        }
        let expected = SERVICES * topology.nodes.len();
        eventually("all ServiceBGPStatus objects", TIMEOUT * 4, || {
            let list = lab.cp.get(&["servicebgpstatuses", "-A"])?;
            let objects = list["items"].as_array().context("no items")?.iter();
            let found = objects.filter(|object| object["status"]["peers"][0] == "tor");
            let found = found.count();
            ensure!(found == expected, "{found}");
            anyhow::Ok(())
        })?;
        let with = lab.writes()?;
        for kind in [
            "services",
            "bgpsessions",
            "servicebgpstatuses",
            "configurationstates",
        ] {
            let (before, after) = (of_kind(&without, kind), of_kind(&with, kind));
            println!("{kind}: {before} writes without, {after} with --metallb-status");
        }
        ensure!(of_kind(&without, "services") == SERVICES, "{without:?}");
        let written = of_kind(&with, "servicebgpstatuses");
        ensure!(written == 2 * expected, "{with:?}");
        print_size(&lab, "servicebgpstatuses")?;
        the_objects_are_those_of_metallb(&lab)?;
        a_router_without_sessions_is_no_peer(&mut lab)?;
        the_objects_of_a_node_that_leaves_are_deleted(&mut lab)
    });
}

/// Prints the size of an object, for docs/observe.md.
fn print_size(lab: &Lab<'_>, kind: &str) -> Result<()> {
    let list = lab
        .cp
        .get(&[kind, "-n", NAMESPACE, "--show-managed-fields"])?;
    println!("{kind}: {} octets each", list["items"][0].to_string().len());
    Ok(())
}

/// MetalLB lists every router that it means to announce a Service to.
fn a_router_without_sessions_is_no_peer(lab: &mut Lab<'_>) -> Result<()> {
    let count = |lab: &Lab<'_>| -> Result<usize> {
        let list = lab.cp.get(&["servicebgpstatuses", "-n", NAMESPACE])?;
        Ok(list["items"].as_array().context("no items")?.len())
    };
    let await_objects = |lab: &Lab<'_>, expected: usize| {
        eventually(format!("{expected} ServiceBGPStatus"), TIMEOUT * 4, || {
            let found = count(lab)?;
            ensure!(found == expected, "{found}");
            anyhow::Ok(())
        })
    };
    let before = count(lab)?;
    ensure!(before > 0, "none");
    lab.router.stop()?;
    await_objects(lab, 0)?;
    lab.router.start()?;
    await_objects(lab, before)
}

/// MetalLB's objects go with its Pod. The Node stays.
fn the_objects_of_a_node_that_leaves_are_deleted(lab: &mut Lab<'_>) -> Result<()> {
    let elsewhere = manifest::ferrolb_peer(
        "10.99.0.99",
        ", nodeSelectors: [{matchLabels: {lab: leaves}}]",
    );
    lab.cp
        .apply(&elsewhere.replace("name: tor", "name: elsewhere"))?;
    // `kubectl cordon`, which changes no route. The label shows when the announcer knows of it.
    let patch = json!({
        "spec": {"unschedulable": true},
        "metadata": {"labels": {"lab": "leaves"}},
    });
    lab.cp
        .kubectl(&["patch", "node", "node3", "-p", &patch.to_string()])?;
    eventually("the session of the label", TIMEOUT, || {
        lab.cp.get(&["bgpsessions", "node3.elsewhere"])
    })?;
    let of_node3 = [
        "servicebgpstatuses",
        "-n",
        NAMESPACE,
        "-l",
        "metallb.io/node=node3",
    ];
    let list = lab.cp.get(&of_node3)?;
    ensure!(list["items"] != json!([]), "none");
    lab.announcers[2].process().terminate(TIMEOUT)?;
    let list = lab.cp.get(&of_node3)?;
    ensure!(list["items"] == json!([]), "{list}");
    let restarted = lab.count("servicebgpstatuses")?;
    lab.announcers[1].process().terminate(TIMEOUT)?;
    ensure!(
        lab.count("servicebgpstatuses")? == restarted,
        "one that starts again deletes none"
    );
    Ok(())
}

/// The number of writes of a kind, its status included.
fn of_kind(writes: &BTreeMap<(String, String), usize>, kind: &str) -> usize {
    let of_kind = writes
        .iter()
        .filter(|((_, resource), _)| resource.split('/').next() == Some(kind));
    of_kind.map(|(_, count)| count).sum()
}

/// Waits until every node announces every service.
fn await_announced(lab: &Lab<'_>) -> Result<()> {
    let expected = SERVICES * lab.topology.nodes.len();
    eventually("all routes", TIMEOUT * 2, || {
        let table = lab.router.table()?;
        ensure!(table.len() == expected, "{} routes", table.len());
        anyhow::Ok(())
    })
}

/// Rows 75, 76 and 212 of docs/metallb-behaviours.md.
fn the_objects_are_those_of_metallb(lab: &Lab<'_>) -> Result<()> {
    let selector = "metallb.io/node=node2,metallb.io/service-name=web-7,\
                    metallb.io/service-namespace=default";
    let get = ["servicebgpstatuses", "-n", NAMESPACE, "-l", selector];
    let expected = json!({"node": "node2", "serviceName": "web-7", "serviceNamespace": "default",
        "peers": ["tor"]});
    eventually("the status of a service", TIMEOUT, || {
        let list = lab.cp.get(&get)?;
        ensure!(list["items"][0]["status"] == expected, "{list}");
        anyhow::Ok(())
    })?;
    let result = |name: &str, wanted: &str| {
        eventually(format!("{name} {wanted}"), TIMEOUT * 5, || {
            let state = lab
                .cp
                .get(&["configurationstates", name, "-n", NAMESPACE])?;
            ensure!(state["status"]["result"] == wanted, "{state}");
            anyhow::Ok(state)
        })
    };
    for name in [
        "controller",
        "speaker-node1",
        "speaker-node2",
        "speaker-node3",
    ] {
        result(name, "Valid")?;
    }
    let bad = manifest::pool("nonsense").replace("name: pool", "name: bad");
    lab.cp.apply(&bad)?;
    for name in ["controller", "speaker-node1"] {
        let state = result(name, "Invalid")?;
        let summary = state["status"]["errorSummary"].as_str().unwrap_or_default();
        ensure!(
            summary.contains("bad") && summary.contains("nonsense"),
            "{state}"
        );
        let condition = &state["status"]["conditions"][0];
        ensure!(condition["reason"] == "ConfigurationError", "{state}");
    }
    let pool = [
        "delete",
        "ipaddresspools.metallb.io",
        "bad",
        "-n",
        NAMESPACE,
    ];
    lab.cp.kubectl(&pool)?;
    result("speaker-node1", "Valid")?;
    let state = [
        "delete",
        "configurationstates",
        "speaker-node1",
        "-n",
        NAMESPACE,
    ];
    lab.cp.kubectl(&state)?;
    result("speaker-node1", "Valid")?;

    lab.cp.kubectl(&["delete", "service", "web-7"])?;
    eventually(
        "the status objects of the service are gone",
        TIMEOUT,
        || {
            let list = lab.cp.get(&get)?;
            ensure!(list["items"] == json!([]), "{list}");
            anyhow::Ok(())
        },
    )
}
