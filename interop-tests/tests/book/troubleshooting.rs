//! docs/troubleshooting.md and docs/failures.md: a live cluster gets into the state of each
//! section, the page's commands show it, and after its remedy the symptom is gone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::Output;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ferrolb_interop_tests::book::{Page, Shell};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{APP, Backend, Ferrolb, Rack};
use ferrolb_interop_tests::lan::{Host, answers, mac};
use ferrolb_interop_tests::manifest::{EXCLUDE_LABEL, NAMESPACE};
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_interop_tests::router::Router;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use ipnet::IpNet;
use serde_json::json;

const PAGE: &str = "docs/troubleshooting.md";
const FAILURES: &str = "docs/failures.md";
/// Longer than any step takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The port of the Pods' HTTP servers.
const PORT: u16 = 8081;
/// The address of the Service of the page.
const WEB: &str = "192.0.2.10";

/// One pool, one router, every Service announced. The short `connectTime` is for the sections about
/// sessions.
const CONFIGURATION: &str = "
apiVersion: ferrolb.io/v1alpha1
kind: IPAddressPool
metadata: {name: public, namespace: metallb-system}
spec: {addresses: [192.0.2.10-192.0.2.20]}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1, connectTime: 5s}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPAdvertisement
metadata: {name: public, namespace: metallb-system}
spec: {ipAddressPools: [public]}
";

/// An address of the LAN, announced by layer 2.
const LAN: &str = "
apiVersion: ferrolb.io/v1alpha1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [10.99.0.220-10.99.0.230], autoAssign: false}
---
apiVersion: ferrolb.io/v1alpha1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
spec: {ipAddressPools: [lan], interfaces: [uplink]}
";

/// A DaemonSet of MetalLB's speaker, which nothing runs, and its Pod on node1.
const SPEAKER: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: metallb-system, labels: {app: metallb}}
spec:
  selector: {matchLabels: {app: metallb, component: speaker}}
  template:
    metadata: {labels: {app: metallb, component: speaker}}
    spec: {containers: [{name: main, image: none}]}
";

/// A Service of type LoadBalancer for the Pods of both nodes.
fn service(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, {metadata} namespace: default}}
spec:
  {{type: LoadBalancer, selector: {{app: {APP}}}, {spec} ports: [{{port: 80, targetPort: {PORT}}}]}}
"
    )
}

/// A cluster with its router, and the shell of an operator outside of it.
struct Lab<'lab> {
    scratch: &'lab Scratch,
    rack: Rack<'lab>,
    /// A host on the nodes' LAN.
    host: Host,
    shell: Shell<'lab>,
    page: Page,
}

#[test]
pub(super) fn each_symptom_is_shown_by_a_command_and_ends_with_its_remedy() {
    scenario("book-troubleshooting", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut lab = Lab::start(scratch, &topology)?;
        lab.await_announced(WEB)?;
        failures_are_predicted(&lab)?;
        a_healthy_cluster_is_shown(&mut lab)?;
        pending_services(&mut lab)?;
        addresses_without_an_answer(&mut lab)?;
        traffic_to_some_nodes(&mut lab)?;
        traffic_of_some_clients(&mut lab)?;
        sessions(&mut lab)?;
        objects_and_nodes(&mut lab)?;
        metallb_beside(&mut lab)?;
        an_address_in_use(&mut lab)?;
        the_rest(lab)
    });
}

impl<'lab> Lab<'lab> {
    fn start(scratch: &'lab Scratch, topology: &'lab Topology) -> Result<Self> {
        let mut rack = Rack::without_crds(scratch, topology, "ebgp")?;
        for (pod, backend) in rack.data_path.pods.iter().zip(&rack.data_path.backends) {
            serve(backend, &pod.name)?;
        }
        // A changed filter is in effect after 1 s instead of 5 s.
        rack.router
            .configure_lines(&["bgp route-map delay-timer 1"])?;
        rack.cp.install_ferrolb_crds()?;
        rack.cp.apply(CONFIGURATION)?;
        rack.cp.apply(&service("web", "", ""))?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        let nodes = topology.nodes.iter().map(|node| node.name.as_str());
        rack.cp.create_workloads(nodes)?;
        let host = Host::new(topology, "host", 121)?;
        Ok(Self {
            shell: shell(scratch, topology, &rack, &host)?,
            host,
            scratch,
            rack,
            page: Page::read(PAGE)?,
        })
    }

    /// Runs the commands of a section of the page.
    fn run(&mut self, heading: &str) -> Result<()> {
        println!("{heading}");
        self.page.run(heading, &self.shell)
    }

    fn ferrolb(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.rack.cp.command(ferrolb()?);
        command.args(arguments).arg("--kubeconfig");
        command.arg(self.rack.cp.admin_kubeconfig());
        command.output().context("ferrolb")
    }

    /// Waits until ferrolb prints these words.
    fn await_shown(&self, arguments: &[&str], words: &[&str]) -> Result<()> {
        eventually(format!("{words:?} of {arguments:?}"), TIMEOUT, || {
            let output = self.ferrolb(arguments)?;
            let text = String::from_utf8_lossy(&output.stdout);
            ensure!(words.iter().all(|word| text.contains(word)), "{text}");
            Ok(())
        })
    }

    fn await_explained(&self, words: &[&str]) -> Result<()> {
        self.await_shown(&["explain", "svc", "web"], words)
    }

    /// Waits until kubectl prints these words.
    fn await_kubectl(&self, arguments: &[&str], words: &[&str]) -> Result<()> {
        eventually(format!("{words:?} of {arguments:?}"), TIMEOUT, || {
            let text = self.rack.cp.kubectl(arguments)?;
            ensure!(words.iter().all(|word| text.contains(word)), "{text}");
            Ok(())
        })
    }

    /// Waits until `explain` finds nothing, the router has the route of both nodes, and a client is
    /// answered.
    fn await_announced(&self, address: &str) -> Result<()> {
        let both = "announced by BGP from 2 nodes to 1 BGPPeer";
        self.await_explained(&[both, "node2 → tor: Established", address])?;
        self.await_route(address, &[0, 1])?;
        self.await_answers(address)
    }

    /// Waits until the router has the route of exactly these nodes.
    fn await_route(&self, address: &str, nodes: &[usize]) -> Result<()> {
        let prefix = IpNet::from(address.parse::<std::net::IpAddr>()?);
        let expected = self.rack.routes(&prefix.to_string(), nodes)?;
        eventually(format!("{prefix} of {nodes:?}"), TIMEOUT, || {
            let mut table = self.rack.router.table()?;
            table.retain(|route| route.prefix == prefix);
            ensure!(table == expected, "{table:?}");
            let hops = self
                .rack
                .topology
                .tor
                .kernel_next_hops(&prefix.to_string())?;
            ensure!(hops.len() == nodes.len(), "{hops:?}");
            Ok(())
        })
    }

    /// What a client outside of the cluster gets.
    fn request(&self, address: &str) -> Result<String> {
        let url = format!("http://{address}/");
        self.rack
            .topology
            .client()?
            .run("curl", &["-sS", "-m", "2", &url])
    }

    /// Waits until none of ten requests fails.
    fn await_answers(&self, address: &str) -> Result<()> {
        eventually(format!("answers at {address}"), TIMEOUT, || {
            (0..10).try_for_each(|_| self.request(address).map(drop))
        })
    }

    fn kubectl(&self, words: &str) -> Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        self.rack.cp.kubectl(&words).map(drop)
    }

    fn patch(&self, object: &str, spec: &serde_json::Value) -> Result<()> {
        let patch = json!({ "spec": spec }).to_string();
        let mut words: Vec<&str> = object.split(' ').collect();
        words.insert(0, "patch");
        words.extend(["--type=merge", "-p", &patch]);
        self.rack.cp.kubectl(&words).map(drop)
    }

    fn patch_peer(&self, spec: &serde_json::Value) -> Result<()> {
        self.patch(&format!("bgppeers.ferrolb.io tor -n {NAMESPACE}"), spec)
    }

    fn patch_pool(&self, addresses: &[&str]) -> Result<()> {
        let pool = format!("ipaddresspools.ferrolb.io public -n {NAMESPACE}");
        self.patch(&pool, &json!({ "addresses": addresses }))
    }

    /// Replaces the Service.
    fn replace_web(&self, metadata: &str, spec: &str) -> Result<()> {
        self.kubectl("delete service web")?;
        self.rack.cp.apply(&service("web", metadata, spec))
    }

    /// Replaces the Service by the one of the page, with its address, and waits until it works.
    fn restore_web(&self) -> Result<()> {
        self.replace_web("", "")?;
        self.kubectl(&format!(
            "annotate service web metallb.io/loadBalancerIPs={WEB}"
        ))?;
        self.rack.await_address("web", WEB)?;
        // The Service keeps it.
        self.kubectl("annotate service web metallb.io/loadBalancerIPs-")?;
        self.await_announced(WEB)
    }
}

/// bash of an operator behind the router, who also reaches the API server. `vtysh` asks the router,
/// and `arping` runs on the host of the LAN.
fn shell<'lab>(
    scratch: &'lab Scratch,
    topology: &'lab Topology,
    rack: &Rack<'lab>,
    host: &Host,
) -> Result<Shell<'lab>> {
    let operator = topology.client()?;
    rack.cp.join(operator)?;
    let folder = scratch.file("operator");
    fs::create_dir_all(&folder)?;
    let router = topology.tor.name();
    let lan = format!("nsenter --net=/run/netns/{} --", host.namespace.name());
    let cache = folder.join("cache").display().to_string();
    let kubeconfig = rack.cp.admin_kubeconfig().display().to_string();
    Ok(Shell::new(&folder, || operator.command("bash"))?
        .program("kubectl", rack.cp.kubectl_program())?
        .program("kubectl-ferrolb", &ferrolb()?)?
        .script("vtysh", &format!("exec /usr/bin/vtysh -N {router} \"$@\""))?
        .script("arping", &format!("exec {lan} /usr/bin/arping \"$@\""))?
        .variable("KUBECACHEDIR", &cache)
        .variable("KUBECONFIG", &kubeconfig))
}

/// Starts an HTTP server in a Pod that answers with the Pod's name and the client's address.
fn serve(backend: &Backend, name: &str) -> Result<()> {
    let namespace = backend.namespace().open()?;
    let name = name.to_owned();
    let bound = thread::spawn(move || {
        namespace.enter()?;
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).context("bind")
    });
    let Ok(listener) = bound.join() else {
        bail!("a thread panicked");
    };
    let listener = listener?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // Fails when the client closes the connection.
            answer(connection, &name).ok();
        }
    });
    Ok(())
}

fn answer(mut connection: TcpStream, name: &str) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    let client = connection.peer_addr()?.ip().to_canonical();
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = format!("{name} {client}\n");
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn failures_are_predicted(lab: &Lab<'_>) -> Result<()> {
    Page::read(FAILURES)?.run_rest(&lab.shell)
}

fn a_healthy_cluster_is_shown(lab: &mut Lab<'_>) -> Result<()> {
    lab.await_shown(&["status"], &["nothing is wrong; "])?;
    lab.run("Start here")
}

fn pending_services(lab: &mut Lab<'_>) -> Result<()> {
    lab.kubectl("delete service web")?;
    lab.patch_pool(&["192.0.2.10/32"])?;
    lab.rack.cp.apply(&service("other", "", ""))?;
    lab.rack.await_address("other", WEB)?;
    lab.rack.cp.apply(&service("web", "", ""))?;
    lab.await_explained(&["not announced: PoolExhausted"])?;
    lab.run("EXTERNAL-IP is pending: all addresses are in use")?;
    lab.await_announced("192.0.2.11")?;

    lab.replace_web(
        &format!("annotations: {{metallb.io/loadBalancerIPs: {WEB}}},"),
        "",
    )?;
    lab.await_explained(&["not announced: AddressInUse"])?;
    lab.run("EXTERNAL-IP is pending: an address is requested")?;
    lab.await_announced("192.0.2.11")?;
    lab.kubectl("delete service other")?;
    lab.restore_web()
}

fn addresses_without_an_answer(lab: &mut Lab<'_>) -> Result<()> {
    lab.kubectl(&format!(
        "delete bgpadvertisements.ferrolb.io public -n {NAMESPACE}"
    ))?;
    lab.await_explained(&["not announced: NoAdvertisement"])?;
    lab.await_route(WEB, &[])?;
    lab.run("An address but no answer: no advertisement")?;
    lab.await_announced(WEB)?;

    lab.patch("service web", &json!({"selector": {"app": "wbe"}}))?;
    lab.await_explained(&["not announced: NoEndpoints"])?;
    ensure!(lab.request(WEB).is_err(), "it answers");
    lab.run("An address but no answer: no endpoint")?;
    lab.await_announced(WEB)?;

    lab.patch_pool(&["198.18.0.10-198.18.0.20"])?;
    lab.await_explained(&["announced by BGP from 2 nodes", "tor: 198.18.0.10/32"])?;
    eventually("the router rejects the route", TIMEOUT, || {
        let rejected = lab.rack.router.rejected()?;
        ensure!(
            rejected.contains(&"198.18.0.10/32".parse::<IpNet>()?),
            "{rejected:?}"
        );
        Ok(())
    })?;
    lab.run("An address but no answer: the router drops the route")?;
    lab.await_announced("198.18.0.10")?;
    lab.patch_pool(&["192.0.2.10-192.0.2.20"])?;
    lab.restore_web()
}

fn traffic_to_some_nodes(lab: &mut Lab<'_>) -> Result<()> {
    let paths = |number: u8| {
        let paths = format!("maximum-paths {number}");
        let lines = ["router bgp 64600", "address-family ipv4 unicast", &paths];
        lab.rack.router.configure_lines(&lines)
    };
    paths(1)?;
    let hops = |number: usize| {
        eventually(format!("{number} next hops"), TIMEOUT, || {
            let prefix = format!("{WEB}/32");
            let hops = lab.rack.topology.tor.kernel_next_hops(&prefix)?;
            ensure!(hops.len() == number, "{hops:?}");
            Ok(())
        })
    };
    hops(1)?;
    lab.run("Only one node receives traffic")?;
    lab.await_announced(WEB)?;

    // The rules of node2 stay as they are, so that it does not know the new address.
    lab.rack.data_path.stop_kube_proxy(1)?;
    lab.kubectl("annotate service web metallb.io/loadBalancerIPs=192.0.2.15")?;
    lab.await_route("192.0.2.15", &[0, 1])?;
    eventually("some requests fail", TIMEOUT, || {
        let failed = (0..20).filter(|_| lab.request("192.0.2.15").is_err());
        let failed = failed.count();
        ensure!(failed > 0 && failed < 20, "{failed} of 20");
        Ok(())
    })?;
    lab.run("Every second connection fails")?;
    lab.await_route("192.0.2.15", &[0])?;
    lab.await_answers("192.0.2.15")?;
    let topology = lab.rack.topology;
    let Rack { data_path, cp, .. } = &mut lab.rack;
    data_path.start_kube_proxy(cp, &topology.nodes, 1)?;
    lab.run("When the node is repaired")?;
    lab.await_announced("192.0.2.15")?;
    lab.restore_web()
}

fn traffic_of_some_clients(lab: &mut Lab<'_>) -> Result<()> {
    let others = json!({"loadBalancerSourceRanges": ["198.51.100.0/24"]});
    lab.patch("service web", &others)?;
    eventually("the client is refused", TIMEOUT, || {
        ensure!(lab.request(WEB).is_err(), "it is answered");
        Ok(())
    })?;
    lab.run("Some clients are refused")?;
    lab.await_announced(WEB)?;

    let seen = lab.request(WEB)?;
    ensure!(!seen.contains("192.168.50.2"), "{seen}");
    lab.run("The client's address is lost")?;
    eventually("the client's own address", TIMEOUT, || {
        let seen = lab.request(WEB)?;
        ensure!(seen.contains(" 192.168.50.2"), "{seen}");
        Ok(())
    })?;

    lab.patch_pool(&["192.0.2.10-192.0.2.20", "2001:db8:10::10-2001:db8:10::20"])?;
    lab.replace_web("", "ipFamilyPolicy: RequireDualStack,")?;
    lab.await_explained(&[WEB, "FamilyNotCarried", "tor: Established"])?;
    lab.run("It works for IPv4 only")?;
    lab.await_route("2001:db8:10::10", &[0, 1])?;
    lab.await_answers("[2001:db8:10::10]")?;
    lab.replace_web("", "")?;
    lab.patch_pool(&["192.0.2.10-192.0.2.20"])?;
    lab.restore_web()
}

fn sessions(lab: &mut Lab<'_>) -> Result<()> {
    lab.rack.router.kill_bgpd()?;
    let explain = ["explain", "peer", "tor"];
    let down = "node1, node2 → tor: SessionDown";
    lab.await_shown(&explain, &[down, "connection-refused"])?;
    lab.run("A session is not established")?;
    lab.rack.router.start_bgpd()?;
    lab.await_announced(WEB)?;

    lab.patch_peer(&json!({"peerAddress": "10.99.0.9"}))?;
    let wide = ["get", "bgpsessions", "-o", "wide", "--no-headers"];
    eventually("both nodes report the error", TIMEOUT, || {
        let text = lab.rack.cp.kubectl(&wide)?;
        let failed = text.matches("can't connect").count();
        ensure!(
            failed == 2 && text.matches("10.99.0.9").count() == 2,
            "{text}"
        );
        Ok(())
    })?;
    lab.run("A session stays in Active: nothing answers")?;
    lab.await_announced(WEB)?;

    lab.rack.cp.apply(&format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/basic-auth, \
         stringData: {{password: a-password-of-the-lab}}, \
         metadata: {{name: tor-password, namespace: {NAMESPACE}}}}}"
    ))?;
    lab.patch_peer(&json!({"passwordSecret": {"name": "tor-password"}}))?;
    lab.await_shown(&explain, &[down, "TCP MD5 password"])?;
    lab.run("A session stays in Active: the password")?;
    lab.await_announced(WEB)?;

    lab.patch_peer(&json!({"peerASN": 64999}))?;
    lab.await_shown(&explain, &[down, "wrong-asn at"])?;
    lab.run("A session goes back to Idle: the AS number")?;
    lab.await_announced(WEB)?;

    lab.rack.cp.apply(&format!(
        "{{apiVersion: ferrolb.io/v1alpha1, kind: BFDProfile, \
         metadata: {{name: fast, namespace: {NAMESPACE}}}, spec: {{}}}}"
    ))?;
    lab.patch_peer(&json!({"bfdProfile": "fast"}))?;
    eventually("BFD is Down on both nodes", TIMEOUT, || {
        let text = lab.rack.cp.kubectl(&["get", "bgpsessions"])?;
        let established = text.matches("Established").count();
        ensure!(
            established == 2 && text.matches("Down").count() == 2,
            "{text}"
        );
        Ok(())
    })?;
    lab.run("BFD is Down")?;
    lab.await_announced(WEB)?;

    flapping_session(lab)
}

/// The node's link loses every packet until the hold time is over.
fn flapping_session(lab: &mut Lab<'_>) -> Result<()> {
    lab.patch_peer(&json!({"holdTime": "3s"}))?;
    lab.await_announced(WEB)?;
    let uplink = &lab.rack.topology.nodes[0].uplink;
    uplink.cut()?;
    let shown = [
        "get",
        "bgpsession",
        "node1.tor",
        "-o",
        "jsonpath={.status.lastError.reason}",
    ];
    lab.await_kubectl(&shown, &["hold-timer-expired"])?;
    uplink.restore()?;
    lab.run("A session flaps")?;
    lab.await_announced(WEB)
}

fn objects_and_nodes(lab: &mut Lab<'_>) -> Result<()> {
    lab.rack.cp.apply(&format!(
        "{{apiVersion: ferrolb.io/v1alpha1, kind: IPAddressPool, \
         metadata: {{name: second, namespace: {NAMESPACE}}}, \
         spec: {{addresses: [192.0.2.0/24]}}}}"
    ))?;
    lab.await_shown(&["status"], &["1 thing is wrong", "InvalidObject"])?;
    lab.run("A change has no effect")?;
    lab.await_shown(&["status"], &["nothing is wrong"])?;

    lab.kubectl(&format!("label node node2 {EXCLUDE_LABEL}="))?;
    lab.await_route(WEB, &[0])?;
    lab.run("A node announces nothing")?;
    lab.await_announced(WEB)
}

/// An announcer without saved routes starts beside MetalLB's speaker.
fn metallb_beside(lab: &mut Lab<'_>) -> Result<()> {
    let cp = &lab.rack.cp;
    cp.apply(SPEAKER)?;
    let daemonset = cp.get(&["daemonset", "speaker", "-n", NAMESPACE])?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "speaker-node1", "namespace": NAMESPACE,
            "labels": {"app": "metallb", "component": "speaker"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "speaker",
                "uid": daemonset["metadata"]["uid"], "controller": true,
            }],
        },
        "spec": {
            "nodeName": "node1", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none"}],
        },
    });
    cp.apply(&pod.to_string())?;
    let running = json!({"status": {"phase": "Running"}}).to_string();
    let target = ["patch", "pod", "speaker-node1", "-n", NAMESPACE];
    cp.kubectl(&[&target[..], &["--subresource=status", "-p", &running]].concat())?;
    let announcer = &mut lab.rack.announcers[0];
    announcer.process().terminate(TIMEOUT)?;
    fs::remove_dir_all(lab.scratch.file("state-node1"))?;
    fs::create_dir(lab.scratch.file("state-node1"))?;
    announcer.start_again()?;
    let events = [
        "get",
        "events",
        "-A",
        "--field-selector=reason=MetalLBSpeakerRuns",
    ];
    lab.await_kubectl(&events, &["node/node1"])?;
    ensure!(
        lab.rack.announcers[0].get("/readyz").is_err(),
        "it is ready"
    );
    lab.run("A Pod of ferrolb is not ready")?;
    lab.rack.announcers[0].await_ready()?;
    lab.await_announced(WEB)
}

/// A printer on the LAN has the first address of the pool.
fn an_address_in_use(lab: &mut Lab<'_>) -> Result<()> {
    let topology = lab.rack.topology;
    let printer = Host::new(topology, "printer", 120)?;
    printer.namespace.address("uplink", "10.99.0.220/24")?;
    // The announcers of the nodes have the same port for metrics.
    lab.rack.announcers.clear();
    let cp = &lab.rack.cp;
    let nodes = topology.nodes.iter();
    let layer2: Result<Vec<_>> = nodes.map(|node| Ferrolb::layer2(cp, node)).collect();
    let mut layer2 = layer2?;
    for process in &mut layer2 {
        process.await_ready()?;
    }
    cp.apply(LAN)?;
    cp.apply(&service(
        "lan",
        "annotations: {metallb.io/address-pool: lan},",
        "",
    ))?;
    let events = ["get", "events", "--field-selector=reason=AddressConflict"];
    lab.await_kubectl(&events, &["service/lan", "10.99.0.220"])?;
    lab.rack.await_address("lan", "10.99.0.220")?;
    let found = answers(&lab.host.namespace, "10.99.0.220".parse()?)?;
    ensure!(found == [mac(&printer.namespace)?].into(), "{found:?}");
    lab.run("Two hosts answer for an address")?;
    lab.rack.await_address("lan", "10.99.0.221")?;
    consistently("one owner", Duration::from_secs(1), || {
        let found = answers(&lab.host.namespace, "10.99.0.221".parse()?)?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(())
    })?;
    lab.kubectl("delete service lan")
}

fn the_rest(mut lab: Lab<'_>) -> Result<()> {
    lab.run("kubectl shows nothing")?;
    lab.patch("service web", &json!({"selector": {"app": "wbe"}}))?;
    let events = ["get", "events", "--field-selector=reason=NotAnnounced"];
    lab.await_kubectl(&events, &["service/web"])?;
    let conditions = [
        "get",
        "service",
        "web",
        "-o",
        "jsonpath={.status.conditions}",
    ];
    lab.await_kubectl(
        &conditions,
        &["\"reason\":\"NoEndpoints\"", "\"status\":\"False\""],
    )?;
    lab.run("The condition of a Service that no node announces")?;
    lab.page.finish()
}
