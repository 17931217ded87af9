//! What layer 2 writes to the API server: its key, Events, and MetalLB's ServiceL2Status objects.
//! A failover writes nothing, unless these objects are requested. What commands that ask the API
//! server show of it is compared with the node that answers ARP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Metallb, Nodes};
use ferrolb_interop_tests::lan::{Host, answers, mac};
use ferrolb_interop_tests::manifest::{self, service};
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);
/// An Event of a failover would be written within this time.
const AFTER: Duration = Duration::from_secs(3);
/// Services of the measurement.
const SERVICES: usize = 100;
const USER: &str = "system:serviceaccount:metallb-system:ferrolb-layer2";

/// The rules of 2-rbac.yaml that are comments there.
const STATUS_ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: status, namespace: metallb-system}
rules:
  - apiGroups: [metallb.io]
    resources: [servicel2statuses]
    verbs: [list, create, patch, delete]
  - apiGroups: [metallb.io]
    resources: [configurationstates]
    verbs: [create, patch]
  - apiGroups: [metallb.io]
    resources: [servicel2statuses/status, configurationstates/status]
    verbs: [patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: status, namespace: metallb-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: status}
subjects:
  - {kind: ServiceAccount, name: ferrolb-layer2, namespace: metallb-system}
";

/// The names of the nodes that Events and status objects name for the Service, sorted.
struct Named {
    events: Vec<String>,
    statuses: Vec<String>,
}

fn named(cp: &ControlPlane<'_>) -> Result<Named> {
    let items = |list: Value| list["items"].as_array().cloned().unwrap_or_default();
    let events = cp.get(&["events", "-n", "default"])?;
    let events = items(events).into_iter().filter_map(|event| {
        let message = event["message"].as_str()?;
        let node = message.strip_prefix("announcing from node \"")?;
        let (node, protocol) = node.split_once('"')?;
        (protocol == " with protocol \"layer2\"").then(|| node.to_owned())
    });
    let statuses = cp.get(&["servicel2statuses.metallb.io", "-n", "metallb-system"])?;
    let statuses = items(statuses).into_iter().map(|object| {
        let status = &object["status"];
        ensure!(status["serviceName"] == "web" && status["serviceNamespace"] == "default");
        ensure!(
            status["interfaces"] == serde_json::json!([{"name": "uplink"}]),
            "{object}"
        );
        ensure!(object["metadata"]["labels"]["metallb.io/node"] == status["node"]);
        Ok(status["node"].as_str().unwrap_or_default().to_owned())
    });
    let mut named = Named {
        events: events.collect(),
        statuses: statuses.collect::<Result<_>>()?,
    };
    named.events.sort();
    named.statuses.sort();
    Ok(named)
}

fn writes(cp: &ControlPlane<'_>) -> Result<usize> {
    Ok(cp
        .writes()?
        .iter()
        .filter(|write| write.user == USER)
        .count())
}

fn the_allocator_creates_a_key(cp: &ControlPlane<'_>) -> Result<()> {
    let secret = eventually("the key", TIMEOUT, || {
        cp.get(&["secret", "ferrolb-layer2", "-n", "metallb-system"])
    })?;
    let key = secret["data"]["secretkey"].as_str().context("no key")?;
    ensure!(
        key.len() == 44,
        "{} characters are not 32 octets",
        key.len()
    );
    Ok(())
}

/// A host on the LAN, and what it is compared with.
struct Lan<'lab> {
    cp: &'lab ControlPlane<'lab>,
    rack: &'lab Topology,
    client: Host,
    /// The Service's.
    address: IpAddr,
}

impl Lan<'_> {
    /// The only node that answers for the address.
    fn answering(&self) -> Result<&str> {
        let found = answers(&self.client.namespace, self.address)?;
        let mut nodes = Vec::new();
        for node in &self.rack.nodes {
            if found.contains(&mac(&node.namespace)?) {
                nodes.push(node.name.as_str());
            }
        }
        ensure!(nodes.len() == 1 && found.len() == 1, "{found:?} {nodes:?}");
        Ok(nodes[0])
    }

    fn await_answering(&self, node: &str) -> Result<()> {
        eventually(format!("answers of {node}"), TIMEOUT, || {
            let found = self.answering()?;
            ensure!(found == node, "{found}");
            Ok(())
        })
    }

    /// What a command prints that reads the API server.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.cp.command(ferrolb()?);
        command.args(arguments).arg("--kubeconfig");
        // `status` and `explain` exit with other codes than 0: no Pod of ferrolb exists.
        let output = command.arg(self.cp.admin_kubeconfig()).output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(!text.is_empty(), "{arguments:?}: {:?}", output.stderr);
        Ok(text)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?}: {text}"))
    }

    /// Checks that `explain`, `l2` and `status` show this owner, and say what names it.
    fn commands_show(&self, owner: &str, source: &str) -> Result<()> {
        let address = self.address.to_string();
        let own = |line: &&Value| line["address"] == address.as_str();
        let right = |line: &Value| line["owner"] == owner && line["source"] == source;
        for (arguments, pointer) in [
            (&["l2"][..], ""),
            (&["l2", "--context", "lab"], ""),
            (&["l2", &address], ""),
            (&["status"], "/layer2"),
        ] {
            let lines = self.json(arguments)?;
            let lines = lines.pointer(pointer).and_then(Value::as_array);
            let lines = lines.with_context(|| format!("{arguments:?}: no lines"))?;
            let line = lines.iter().find(own).context("no line")?;
            ensure!(right(line), "{arguments:?}: {line}, not {owner}");
        }
        let table = self.run(&["l2"])?;
        let line = table.lines().find(|line| line.starts_with(&address));
        let words: Vec<&str> = line.context("no line")?.split_whitespace().collect();
        let expected = [&address, "default/web", owner, source];
        let found = words.iter().map(|word| word.trim_end_matches(','));
        ensure!(found.take(4).eq(expected), "{table}");
        let page = self.run(&["status"])?;
        let owned = format!("{owner} 1");
        let mut lines = page.lines().map(|line| line.split_whitespace());
        let found = lines.any(|line| line.collect::<Vec<_>>().join(" ") == owned);
        ensure!(found, "no {owned:?}: {page}");

        let explained = self.json(&["explain", "svc", "default/web"])?;
        let mut steps = explained["steps"].as_array().context("steps")?.iter();
        let step = steps.find(|step| step["stage"] == "owner");
        let step = step.context("no owner")?;
        ensure!(step["nodes"] == serde_json::json!([owner]), "{step}");
        let text = step["text"].as_str().unwrap_or_default();
        ensure!(text.contains(&format!("says its {source}")), "{step}");
        Ok(())
    }
}

#[test]
fn a_failover_writes_nothing_and_status_objects_follow_the_owner_if_requested() {
    scenario("l2-objects", |scratch| {
        let rack = Topology::new(2)?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.install_ferrolb_rbac()?;
        cp.apply(STATUS_ROLE)?;
        cp.apply(&manifest::join(&[
            &manifest::pool("10.99.0.220-10.99.0.230"),
            &manifest::layer2_advertisement("interfaces: [uplink]"),
            &service("web", "", ""),
        ]))?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let mut allocator = Ferrolb::allocator(&cp, "allocator1")?;
        allocator.await_ready()?;
        the_allocator_creates_a_key(&cp)?;
        let nodes = rack.nodes.iter();
        let layer2: Result<Vec<_>> = nodes.map(|node| Ferrolb::layer2(&cp, node)).collect();
        let mut layer2 = layer2?;

        let first = eventually("one Event", TIMEOUT, || {
            let events = named(&cp)?.events;
            ensure!(events.len() == 1, "{events:?}");
            Ok(events[0].clone())
        })?;
        let addresses = cp.service_addresses("default", "web")?;
        let lan = Lan {
            cp: &cp,
            rack: &rack,
            client: Host::new(&rack, "client", 100)?,
            address: *addresses.first().context("no address")?,
        };
        lan.await_answering(&first)?;
        lan.commands_show(&first, "Event")?;
        let place = |name: &str| rack.nodes.iter().position(|node| node.name == name);
        let owner = place(&first).context("an unknown node")?;
        let other = 1 - owner;
        let before = writes(&cp)?;
        layer2[owner].process().kill()?;
        layer2[other].await_log(&["announcing by layer 2, after node"], TIMEOUT)?;
        sleep(AFTER);
        let after = writes(&cp)?;
        ensure!(before == after, "{} writes", after - before);
        ensure!(named(&cp)?.statuses.is_empty(), "not requested");
        // The commands show what the Event says, and that a failover writes none.
        lan.await_answering(&rack.nodes[other].name)?;
        lan.commands_show(&first, "Event")?;
        let table = lan.run(&["l2"])?;
        ensure!(table.contains("a failover writes none"), "{table}");

        for process in &mut layer2 {
            process.add_argument("--metallb-status");
        }
        layer2[other].process().kill()?;
        layer2[other].start_again()?;
        layer2[owner].start_again()?;
        let current = eventually("one status object", TIMEOUT, || {
            let statuses = named(&cp)?.statuses;
            ensure!(statuses.len() == 1, "{statuses:?}");
            Ok(statuses[0].clone())
        })?;
        lan.await_answering(&current)?;
        lan.commands_show(&current, "ServiceL2Status")?;
        let owner = place(&current).context("an unknown node")?;
        the_node_owns_the_object_and_one_manager_its_fields(&cp, &current)?;
        // An upgrade, with no other node that could write another object.
        layer2[1 - owner].process().kill()?;
        an_earlier_version_wrote_the_object(&cp, scratch)?;
        layer2[owner].process().kill()?;
        layer2[owner].start_again()?;
        eventually("the object of this version", TIMEOUT, || {
            the_node_owns_the_object_and_one_manager_its_fields(&cp, &current)
        })?;
        layer2[1 - owner].start_again()?;
        layer2[owner].process().kill()?;
        let next = rack.nodes[1 - owner].name.clone();
        eventually("the status object of the new owner only", TIMEOUT, || {
            let statuses = named(&cp)?.statuses;
            ensure!(statuses == [next.clone()], "{statuses:?}");
            Ok(())
        })?;
        lan.await_answering(&next)?;
        lan.commands_show(&next, "ServiceL2Status")
    });
}

/// The only ServiceL2Status.
fn object(cp: &ControlPlane<'_>) -> Result<Value> {
    let get = [
        "servicel2statuses.metallb.io",
        "-n",
        "metallb-system",
        "--show-managed-fields",
    ];
    let objects = cp.get(&get)?["items"].as_array().cloned();
    let [object] = &objects.unwrap_or_default()[..] else {
        anyhow::bail!("not one object");
    };
    Ok(object.clone())
}

fn the_node_owns_the_object_and_one_manager_its_fields(
    cp: &ControlPlane<'_>,
    node: &str,
) -> Result<()> {
    let object = object(cp)?;
    let metadata = &object["metadata"];
    let uid = &cp.get(&["node", node])?["metadata"]["uid"];
    let owner = &metadata["ownerReferences"][0];
    ensure!(owner["kind"] == "Node" && owner["uid"] == *uid, "{object}");
    let fields = metadata["managedFields"].as_array();
    let mut managers = fields.context("no managers")?.iter();
    let ours = managers.all(|fields| fields["manager"] == "ferrolb");
    ensure!(ours, "{object}");
    Ok(())
}

/// As a version wrote it that had another field manager.
fn an_earlier_version_wrote_the_object(cp: &ControlPlane<'_>, scratch: &Scratch) -> Result<()> {
    let found = object(cp)?;
    let metadata = &found["metadata"];
    let name = metadata["name"].as_str().context("no name")?;
    let patch = serde_json::json!({
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": {"name": name, "namespace": "metallb-system", "labels": metadata["labels"]},
    });
    let path = scratch.file("earlier.json");
    std::fs::write(&path, patch.to_string())?;
    let path = path.to_string_lossy();
    cp.kubectl(&[
        "apply",
        "--server-side",
        "--field-manager=ferrolb-layer2",
        "-f",
        &path,
    ])?;
    let fields = &object(cp)?["metadata"]["managedFields"];
    ensure!(fields.to_string().contains("ferrolb-layer2"), "{fields}");
    Ok(())
}

/// The number of ServiceL2Status objects, by node.
fn by_node(cp: &ControlPlane<'_>) -> Result<BTreeMap<String, usize>> {
    let list = cp.get(&["servicel2statuses.metallb.io", "-n", "metallb-system"])?;
    let mut nodes = BTreeMap::new();
    for object in list["items"].as_array().context("no items")? {
        let node = object["status"]["node"].as_str().context("no node")?;
        *nodes.entry(node.to_owned()).or_default() += 1;
    }
    Ok(nodes)
}

/// Writes of ServiceL2Status objects and their statuses, and how many of them are deletions.
fn status_writes(cp: &ControlPlane<'_>) -> Result<(usize, usize)> {
    let writes = cp.writes()?;
    let ours = writes.iter().filter(|write| {
        write.user == USER && write.resource.split('/').next() == Some("servicel2statuses")
    });
    let all: Vec<&str> = ours.map(|write| write.verb.as_str()).collect();
    let deletions = all.iter().filter(|verb| **verb == "delete").count();
    Ok((all.len(), deletions))
}

/// docs/observe.md has what it prints.
#[test]
fn status_objects_cost_two_writes_each_and_a_deletion_for_each_that_moves() {
    scenario("l2-objects-cost", |scratch| {
        let rack = Topology::new(3)?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.install_ferrolb_rbac()?;
        cp.apply(STATUS_ROLE)?;
        let services = (0..SERVICES).map(|number| service(&format!("web-{number}"), "", ""));
        let services: Vec<String> = services.collect();
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        cp.apply(&manifest::join(&[
            &manifest::pool("10.99.0.100-10.99.0.199"),
            &manifest::layer2_advertisement("interfaces: [uplink]"),
            &manifest::join(&services),
        ]))?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let mut allocator = Ferrolb::allocator(&cp, "allocator1")?;
        allocator.await_ready()?;
        the_allocator_creates_a_key(&cp)?;
        let nodes = rack.nodes.iter();
        let layer2: Result<Vec<_>> = nodes.map(|node| Ferrolb::layer2(&cp, node)).collect();
        let mut layer2 = layer2?;
        eventually("all services are announced", TIMEOUT * 2, || {
            let events = cp.get(&["events", "-n", "default"])?.to_string();
            let count = events.matches("announcing from node").count();
            ensure!(count >= SERVICES, "{count}");
            Ok(())
        })?;
        ensure!(status_writes(&cp)? == (0, 0), "not requested");

        for process in &mut layer2 {
            process.process().terminate(TIMEOUT)?;
        }
        for process in &mut layer2 {
            process.add_argument("--metallb-status");
            process.start_again()?;
        }
        let owners = eventually("all objects", TIMEOUT * 2, || {
            let owners = by_node(&cp)?;
            ensure!(owners.values().sum::<usize>() == SERVICES, "{owners:?}");
            Ok(owners)
        })?;
        let size = cp.get(&[
            "servicel2statuses.metallb.io",
            "-n",
            "metallb-system",
            "--show-managed-fields",
        ])?;
        let size = size["items"][0].to_string().len();
        let (at_start, deleted) = status_writes(&cp)?;
        println!("start: {at_start} writes, {deleted} of them deletions; {size} octets each");
        println!("{owners:?}");
        // An object whose owner changed meanwhile is written again.
        let expected = 2 * SERVICES..=4 * SERVICES;
        ensure!(expected.contains(&at_start), "{at_start}");

        let (dead, moved) = owners
            .iter()
            .max_by_key(|(_, count)| **count)
            .context("no owner")?;
        let place = rack.nodes.iter().position(|node| node.name == *dead);
        layer2[place.context("an unknown node")?].process().kill()?;
        eventually("objects of other nodes only", TIMEOUT * 2, || {
            let owners = by_node(&cp)?;
            ensure!(!owners.contains_key(dead), "{owners:?}");
            ensure!(owners.values().sum::<usize>() == SERVICES, "{owners:?}");
            Ok(())
        })?;
        let (after, all_deleted) = status_writes(&cp)?;
        let (written, deleted) = (after - at_start, all_deleted - deleted);
        println!("failover of {moved}: {written} writes, {deleted} of them deletions");
        let expected = 3 * moved..=6 * moved;
        ensure!(
            expected.contains(&written) && deleted >= *moved,
            "{written}, of them {deleted} deletions"
        );
        Ok(())
    });
}
