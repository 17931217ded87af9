//! `ferrolb status`, and `peers`, `routes`, `pools` about a whole cluster, by its API server alone.
//! The control plane and the router are real; of the workloads there are only the objects.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{Metallb, Rack};
use ferrolb_interop_tests::manifest::{self, NAMESPACE, service};
use ferrolb_interop_tests::process::{Process, ferrolb};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{MD5_PASSWORD, TOR_IPV4, Topology};
use serde_json::{Value, json};

use super::{CLUSTER, secret};

/// Counters of sessions are written within a minute and a half.
const TIMEOUT: Duration = Duration::from_secs(120);
const WRONG: i32 = 3;
const INCOMPLETE: i32 = 4;

/// A cluster, and everything that ferrolb printed about it.
struct Lab<'lab> {
    rack: Rack<'lab>,
    scratch: &'lab Scratch,
    printed: RefCell<String>,
}

/// Two addresses, and a router with a password.
fn configuration() -> String {
    let peer = ", holdTime: 3s, passwordSecret: {name: tor-password}";
    manifest::join(&[
        &manifest::ferrolb_peer(TOR_IPV4, peer),
        &manifest::pool("192.0.2.0/31"),
        &manifest::advertisement(""),
        &service("web", "", CLUSTER),
    ])
}

#[test]
fn status_names_each_trouble_of_a_cluster_and_its_end() {
    scenario("status", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "md5")?;
        rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
        rack.cp.install_ferrolb_crds()?;
        rack.cp.apply(&secret(NAMESPACE))?;
        rack.cp.apply(&configuration())?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        let mut lab = Lab {
            rack,
            scratch,
            printed: RefCell::default(),
        };
        lab.await_finding("NotInstalled", "ferrolb")?;
        let nodes = topology.nodes.iter().map(|node| node.name.as_str());
        lab.rack.cp.create_workloads(nodes)?;
        lab.await_nothing_wrong()?;
        all_nodes_have_the_routes_that_are_decided_here(&lab)?;
        a_lost_session_is_seen_while_watching(&lab)?;
        a_node_without_a_pod_is_named(&lab)?;
        pods_that_are_not_ready_or_of_another_image_are_named(&lab)?;
        a_node_that_is_not_ready_is_named(&lab)?;
        sessions_that_are_missing_or_have_other_routes_are_named(&lab)?;
        a_service_without_endpoints_and_a_misspelt_annotation_are_named(&lab)?;
        an_exhausted_pool_and_an_invalid_object_are_named(&lab)?;
        a_withheld_service_is_named(&lab)?;
        kubectl_asks_the_cluster_and_completes_names(&lab)?;
        a_viewer_sees_everything_and_others_learn_what_is_missing(&lab)?;
        without_the_kind_the_states_of_sessions_are_unknown(&lab)?;
        without_an_api_server_the_answer_says_so(&mut lab)?;
        let printed = lab.printed.borrow();
        ensure!(printed.contains("Established"), "nothing was collected");
        ensure!(!printed.contains(MD5_PASSWORD), "a password was printed");
        Ok(())
    });
}

impl Lab<'_> {
    /// Runs ferrolb with a kubeconfig.
    fn run_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = self.rack.cp.command(ferrolb()?);
        command.args(arguments).arg("--kubeconfig").arg(kubeconfig);
        let answer = command.output().context("ferrolb")?;
        let mut printed = self.printed.borrow_mut();
        printed.push_str(&String::from_utf8_lossy(&answer.stdout));
        printed.push_str(&String::from_utf8_lossy(&answer.stderr));
        Ok(answer)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_as(&self.rack.cp.admin_kubeconfig(), arguments)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_slice(&answer.stdout).with_context(|| format!("{answer:?}"))
    }

    /// Waits until something is wrong with an object, and says so in both forms.
    fn await_finding(&self, code: &str, object: &str) -> Result<()> {
        eventually(format!("{code} of {object}"), TIMEOUT, || {
            let status = self.json(&["status"])?;
            ensure!(has_finding(&status, code, object)?, "{status:#}");
            Ok(())
        })?;
        let page = self.run(&["status"])?;
        let text = String::from_utf8_lossy(&page.stdout);
        ensure!(text.contains(code) && text.contains(object), "{text}");
        Ok(())
    }

    /// The same, and the exit code says so.
    fn await_wrong(&self, code: &str, object: &str) -> Result<()> {
        self.await_finding(code, object)?;
        let answer = self.run(&["status"])?;
        ensure!(answer.status.code() == Some(WRONG), "{answer:?}");
        Ok(())
    }

    /// Waits until no finding has this code and object.
    fn await_end(&self, code: &str, object: &str) -> Result<()> {
        eventually(format!("the end of {code} of {object}"), TIMEOUT, || {
            let status = self.json(&["status"])?;
            ensure!(!has_finding(&status, code, object)?, "{status:#}");
            Ok(())
        })
    }

    fn await_nothing_wrong(&self) -> Result<()> {
        eventually("nothing is wrong", TIMEOUT, || {
            let answer = self.run(&["status"])?;
            let text = String::from_utf8_lossy(&answer.stdout);
            ensure!(answer.status.code() == Some(0), "{text}");
            // Digests, of which differences are warnings, are written within a minute and a half.
            ensure!(text.starts_with("nothing is wrong; "), "{text}");
            ensure!(text.contains("2 of 2 sessions established"), "{text}");
            Ok(())
        })
    }
}

/// Whether the answer has a finding with this code and object.
fn has_finding(status: &Value, code: &str, object: &str) -> Result<bool> {
    let findings = status["findings"].as_array().context("findings")?;
    Ok(findings.iter().any(|finding| {
        let objects = finding["objects"].as_array().into_iter().flatten();
        finding["code"] == code && objects.into_iter().any(|one| one == object)
    }))
}

/// The digests in the BGPSessions are those of the decision.
fn all_nodes_have_the_routes_that_are_decided_here(lab: &Lab<'_>) -> Result<()> {
    let address = lab.rack.await_addresses("web")?[0];
    eventually("all routes are sent as expected", TIMEOUT, || {
        let routes = lab.json(&["routes"])?;
        let routes = routes.as_array().context("routes")?;
        let found: BTreeSet<(&str, &str, &str)> = routes
            .iter()
            .map(|route| {
                let field = |name: &str| route[name].as_str().unwrap_or_default();
                (field("node"), field("prefix"), field("sent"))
            })
            .collect();
        let prefix = format!("{address}/32");
        let expected = [("node1", &*prefix, "yes"), ("node2", &*prefix, "yes")];
        ensure!(found == expected.into(), "{found:?}");
        Ok(())
    })?;
    // Until a node publishes a digest, the number of prefixes is compared.
    eventually("all digests are published", TIMEOUT, || {
        let sessions = lab.json(&["peers"])?;
        for session in sessions.as_array().context("sessions")? {
            let digest = &session["digest"];
            ensure!(digest.is_string(), "{session}");
            ensure!(*digest == session["digestExpected"], "{session}");
        }
        Ok(())
    })?;
    let pools = lab.json(&["pools"])?;
    ensure!(pools[0]["used"] == 1 && pools[0]["free"] == 1, "{pools}");
    Ok(())
}

fn a_lost_session_is_seen_while_watching(lab: &Lab<'_>) -> Result<()> {
    let mut command = lab.rack.cp.command(ferrolb()?);
    command.args(["status", "-w", "--kubeconfig"]);
    command.arg(lab.rack.cp.admin_kubeconfig());
    let watching = Process::start(lab.scratch, "status-w", &command)?;
    watching.await_log(&["nothing is wrong"], TIMEOUT)?;
    let node = &lab.rack.topology.nodes[0];
    node.uplink.cut()?;
    lab.await_wrong("SessionDown", "node1 → tor")?;
    watching.await_log(&["SessionDown node1 → tor"], TIMEOUT)?;
    let peers = lab.run(&["peers"])?;
    let text = String::from_utf8_lossy(&peers.stdout);
    ensure!(text.contains("1 of 2 sessions established"), "{text}");
    lab.rack.topology.nodes[1].uplink.cut()?;
    lab.await_wrong("NoSessionForService", "Service default/web")?;
    for node in &lab.rack.topology.nodes {
        node.uplink.restore()?;
    }
    watching.await_log(&["SessionDown node1 → tor  no more"], TIMEOUT)?;
    lab.printed.borrow_mut().push_str(&watching.log_text()?);
    lab.await_nothing_wrong()
}

fn a_node_without_a_pod_is_named(lab: &Lab<'_>) -> Result<()> {
    let pod = ["delete", "pod", "ferrolb-announcer-node2", "-n", NAMESPACE];
    lab.rack.cp.kubectl(&pod)?;
    lab.await_wrong("DaemonMissing", "node2")?;
    lab.rack.cp.create_announcer_pod("node2")?;
    lab.await_nothing_wrong()
}

fn pods_that_are_not_ready_or_of_another_image_are_named(lab: &Lab<'_>) -> Result<()> {
    let cp = &lab.rack.cp;
    let name = "ferrolb-announcer-node1";
    cp.set_pod_ready(NAMESPACE, name, false)?;
    let object = format!("Pod {NAMESPACE}/{name} on node1");
    lab.await_wrong("PodNotReady", &object)?;
    cp.set_pod_ready(NAMESPACE, name, true)?;
    lab.await_nothing_wrong()?;
    let set_image = |image: &str| {
        let image = format!("ferrolb={image}");
        let pod = format!("pod/{name}");
        cp.kubectl(&["set", "image", &pod, &image, "-n", NAMESPACE])
    };
    set_image("ferrolb:other")?;
    lab.await_finding("VersionsDiffer", "Pods of ferrolb")?;
    set_image("ferrolb:dev")?;
    lab.await_end("VersionsDiffer", "Pods of ferrolb")
}

fn a_node_that_is_not_ready_is_named(lab: &Lab<'_>) -> Result<()> {
    lab.rack.cp.set_node_ready("node1", false)?;
    lab.await_wrong("NodeNotReady", "node1")?;
    lab.rack.cp.set_node_ready("node1", true)?;
    lab.await_nothing_wrong()
}

/// An announcer writes all of its sessions again when its Node becomes Ready.
fn sessions_that_are_missing_or_have_other_routes_are_named(lab: &Lab<'_>) -> Result<()> {
    let cp = &lab.rack.cp;
    let node_becomes_ready_again = || {
        cp.set_node_ready("node2", false)?;
        lab.await_wrong("NodeNotReady", "node2")?;
        cp.set_node_ready("node2", true)?;
        lab.await_nothing_wrong()
    };
    cp.kubectl(&["delete", "bgpsession", "node2.tor"])?;
    lab.await_wrong("SessionMissing", "node2 → tor")?;
    node_becomes_ready_again()?;
    let status = json!({"status": {"digest": "0000000000000001"}}).to_string();
    let object = ["patch", "bgpsession", "node2.tor"];
    cp.kubectl(&[&object[..], &["--type=merge", "-p", &status]].concat())?;
    lab.await_finding("RoutesDiffer", "node2 → tor")?;
    node_becomes_ready_again()?;
    lab.await_end("RoutesDiffer", "node2 → tor")
}

fn a_service_without_endpoints_and_a_misspelt_annotation_are_named(lab: &Lab<'_>) -> Result<()> {
    let cp = &lab.rack.cp;
    let set_ready = |ready| {
        let mut pods = ["web-node1", "web-node2"].iter();
        pods.try_for_each(|pod| cp.set_pod_ready("default", pod, ready))
    };
    set_ready(false)?;
    lab.await_finding("NoEndpoints", "Service default/web")?;
    set_ready(true)?;
    lab.await_end("NoEndpoints", "Service default/web")?;
    cp.kubectl(&["annotate", "service", "web", "metallb.io/adress-pool=pool"])?;
    lab.await_finding("Notice", "Service default/web")?;
    cp.kubectl(&["annotate", "service", "web", "metallb.io/adress-pool-"])?;
    lab.await_end("Notice", "Service default/web")
}

fn an_exhausted_pool_and_an_invalid_object_are_named(lab: &Lab<'_>) -> Result<()> {
    let cp = &lab.rack.cp;
    // One of two addresses was allocated on the first day.
    lab.await_finding("PoolNearlyExhausted", "IPAddressPool pool")?;
    cp.apply(&manifest::pool("192.0.2.0/24"))?;
    lab.await_end("PoolNearlyExhausted", "IPAddressPool pool")?;
    cp.apply(&manifest::pool("192.0.2.0/31"))?;
    for name in ["second", "third"] {
        cp.apply(&service(name, "", CLUSTER))?;
    }
    lab.await_finding("PoolExhausted", "IPAddressPool pool")?;
    lab.await_wrong("NoAddress", "Service default/third")?;
    cp.kubectl(&["delete", "service", "second", "third"])?;
    lab.await_nothing_wrong()?;
    let bad = manifest::pool("nonsense").replace("name: pool", "name: bad");
    cp.apply(&bad)?;
    lab.await_wrong("InvalidObject", "IPAddressPool metallb-system/bad")?;
    let delete = [
        "delete",
        "ipaddresspools.metallb.io",
        "bad",
        "-n",
        NAMESPACE,
    ];
    cp.kubectl(&delete)?;
    lab.await_nothing_wrong()
}

fn a_withheld_service_is_named(lab: &Lab<'_>) -> Result<()> {
    let none = "serviceSelectors: [{matchLabels: {tier: none}}]";
    lab.rack.cp.apply(&manifest::advertisement(none))?;
    lab.await_wrong("NotAnnounced", "Service default/web")?;
    lab.rack.cp.apply(&manifest::advertisement(""))?;
    lab.await_nothing_wrong()
}

fn kubectl_asks_the_cluster_and_completes_names(lab: &Lab<'_>) -> Result<()> {
    let run = |name: &str, arguments: &[&str]| {
        let program = lab.scratch.file(name);
        if !program.exists() {
            symlink(ferrolb()?, &program)?;
        }
        let mut command = lab.rack.cp.command(program);
        command.args(arguments).stderr(Stdio::inherit());
        let answer = command
            .env("KUBECONFIG", lab.rack.cp.admin_kubeconfig())
            .output()?;
        let text = String::from_utf8(answer.stdout)?;
        lab.printed.borrow_mut().push_str(&text);
        anyhow::Ok(text)
    };
    let peers = run("kubectl-ferrolb", &["peers"])?;
    ensure!(peers.contains("2 of 2 sessions established"), "{peers}");
    for (words, names) in [
        (["explain", "svc", "def"], "default/web\n:4\n"),
        (["explain", "node", "node"], "node1\nnode2\n:4\n"),
        (["explain", "peer", ""], "tor\n:4\n"),
        (["routes", "--peer", "t"], "tor\n:4\n"),
        (["explain", "pool", ""], "pool\n:4\n"),
        (["explain", "pool", "--cont"], "--context\n:4\n"),
    ] {
        let answer = run("kubectl_complete-ferrolb", &words)?;
        ensure!(answer == names, "{words:?}: {answer}");
    }
    Ok(())
}

fn a_viewer_sees_everything_and_others_learn_what_is_missing(lab: &Lab<'_>) -> Result<()> {
    let cp = &lab.rack.cp;
    for name in ["onlooker", "stranger"] {
        cp.kubectl(&["create", "serviceaccount", name])?;
    }
    let words = "create clusterrolebinding onlooker --clusterrole=ferrolb-viewer \
                 --serviceaccount=default:onlooker";
    cp.kubectl(&words.split_whitespace().collect::<Vec<_>>())?;
    let onlooker = cp.service_account_kubeconfig("default", "onlooker")?;
    eventually("the binding is in effect", TIMEOUT, || {
        let answer = lab.run_as(&onlooker, &["status"])?;
        ensure!(answer.status.code() == Some(0), "{answer:?}");
        ensure!(answer.stderr.is_empty(), "{answer:?}");
        Ok(())
    })?;
    let words = "create clusterrole some --verb=list --resource=services,nodes,namespaces";
    cp.kubectl(&words.split_whitespace().collect::<Vec<_>>())?;
    let words = "create clusterrolebinding some --clusterrole=some \
                 --serviceaccount=default:stranger";
    cp.kubectl(&words.split_whitespace().collect::<Vec<_>>())?;
    let stranger = cp.service_account_kubeconfig("default", "stranger")?;
    let answer = lab.run_as(&stranger, &["status"])?;
    let errors = String::from_utf8_lossy(&answer.stderr);
    for expected in [
        "can't see BGPSession: ",
        "cannot list resource \"bgpsessions\"",
        // Deployments are asked for first.
        "cannot list resource \"deployments\"",
        "the ClusterRole ferrolb-viewer",
    ] {
        ensure!(errors.contains(expected), "{expected}: {errors}");
    }
    let code = answer.status.code();
    ensure!(
        code == Some(WRONG) || code == Some(INCOMPLETE),
        "{answer:?}"
    );
    let text = String::from_utf8_lossy(&answer.stdout);
    ensure!(text.contains("of 1 services announced"), "{text}");
    Ok(())
}

fn without_the_kind_the_states_of_sessions_are_unknown(lab: &Lab<'_>) -> Result<()> {
    let crd = ["delete", "crd", "bgpsessions.ferrolb.io"];
    lab.rack.cp.kubectl(&crd)?;
    lab.await_finding("SessionsUnknown", "BGPSession")
}

fn without_an_api_server_the_answer_says_so(lab: &mut Lab<'_>) -> Result<()> {
    lab.rack.cp.stop_api_server()?;
    let answer = lab.run(&["status"])?;
    ensure!(answer.status.code() == Some(1), "{answer:?}");
    let error = String::from_utf8_lossy(&answer.stderr);
    ensure!(error.contains("can't read the cluster"), "{error}");
    ensure!(error.contains("kubectl get --raw /readyz"), "{error}");
    Ok(())
}
