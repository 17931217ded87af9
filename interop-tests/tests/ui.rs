//! `ferrolb ui` and `ferrolb demo --ui` in a real browser.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::browser::Browser;
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::Rack;
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::{Process, ferrolb};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use serde_json::json;

const TIMEOUT: Duration = Duration::from_mins(2);
/// The size limit of the picture in docs.
const PICTURE_MAX: u64 = 150_000;

/// A page of ferrolb in a browser.
struct Page {
    browser: Browser,
    url: String,
    server: Process,
}

impl Page {
    /// Starts ferrolb with these arguments, and opens its page.
    fn open(scratch: &Scratch, arguments: &[&str]) -> Result<Self> {
        Self::open_in(scratch, arguments, Command::new)
    }

    /// As [`Self::open`]; `command` starts the programs in a namespace.
    fn open_in(
        scratch: &Scratch,
        arguments: &[&str],
        command: impl Fn(PathBuf) -> Command,
    ) -> Result<Self> {
        let mut command_of_ui = command(ferrolb()?);
        command_of_ui.args(arguments).current_dir(scratch.path());
        let server = Process::start(scratch, "ui", &command_of_ui)?;
        server.await_log(&["http://127.0.0.1:"], TIMEOUT)?;
        let log = server.log_text()?;
        let mut words = log.split_whitespace();
        let url = words.find(|word| word.starts_with("http://127.0.0.1:"));
        let url = url.context("no address in the log")?.to_owned();
        let mut browser = Browser::start(scratch, command("sh".into()))?;
        browser.open(&url)?;
        let mut page = Self {
            browser,
            url,
            server,
        };
        page.until("document.body.dataset.ready === 'true'")?;
        Ok(page)
    }

    /// Waits until an expression in JavaScript is true.
    fn until(&mut self, expression: &str) -> Result<()> {
        let url = self.url.clone();
        eventually(format!("{expression} on {url}"), TIMEOUT, || {
            self.browser.check(expression)
        })
    }

    /// Waits until an element that a selector matches has this text.
    fn until_text(&mut self, selector: &str, text: &str) -> Result<()> {
        let (selector, wanted) = (json!(selector), json!(text));
        eventually(format!("{text:?} in {selector}"), TIMEOUT, || {
            let elements = format!("[...document.querySelectorAll({selector})]");
            let texts = format!("{elements}.map((e) => e.textContent).join('\\n')");
            let found = self.browser.text(&texts)?;
            ensure!(
                found.contains(wanted.as_str().unwrap_or_default()),
                "{found}"
            );
            Ok::<_, anyhow::Error>(())
        })
    }

    /// No error on the console, and no request to another host.
    fn check_quiet(&mut self) -> Result<()> {
        let mut complaints = self.browser.complaints()?;
        // The browser reports the answer to manifests with a mistake.
        complaints.retain(|text| !text.contains("422 (Unprocessable Entity)"));
        ensure!(complaints.is_empty(), "the page complains: {complaints:#?}");
        let requests = self.browser.requests()?;
        let foreign = requests.iter().filter(|url| !url.starts_with(&self.url));
        let foreign: Vec<&String> = foreign.filter(|url| !url.starts_with("about:")).collect();
        ensure!(foreign.is_empty(), "requests to other hosts: {foreign:?}");
        ensure!(requests.len() > 5, "no requests were seen: {requests:?}");
        self.server.ensure_running()
    }
}

/// A file of docs that `UPDATE_DOCS=1` writes again.
fn kept(scratch: &Scratch, name: &str) -> PathBuf {
    if std::env::var("UPDATE_DOCS").is_ok_and(|update| update == "1") {
        return Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs")
            .join(name);
    }
    scratch.file(name)
}

fn node(name: &str, address: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n\
         status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
    )
}

fn service(name: &str, policy: &str, more: &str, nodes: &[String]) -> String {
    let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {short}, namespace: {namespace}}}\n\
         spec: {{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{{port: 80}}], \
         externalTrafficPolicy: {policy}{more}}}\n"
    );
    let endpoints = nodes.iter().enumerate();
    let endpoints = endpoints.map(|(i, node)| {
        format!(
            "{{addresses: [10.244.0.{}], nodeName: {node}}}",
            i % 250 + 1
        )
    });
    let endpoints: Vec<String> = endpoints.collect();
    _ = write!(
        text,
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {short}-1, namespace: {namespace}, \
         labels: {{kubernetes.io/service-name: {short}}}}}\naddressType: IPv4\n\
         endpoints: [{}]\n",
        endpoints.join(", ")
    );
    text
}

/// The configuration of two racks with a router each, and a pool for each protocol.
const CONFIGURATION: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: production, namespace: metallb-system}
spec: {addresses: [203.0.113.0/26, "2001:db8:113::/120"]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: office-lan, namespace: metallb-system}
spec: {addresses: [192.168.7.240-192.168.7.250], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: production, namespace: metallb-system}
spec: {ipAddressPools: [production]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: office, namespace: metallb-system}
spec: {ipAddressPools: [office-lan], nodeSelectors: [{matchLabels: {rack: a}}]}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor-a, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64601, peerAddress: 10.0.1.1, password: kept-to-itself,
  nodeSelectors: [{matchLabels: {rack: a}}]}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor-b, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64602, peerAddress: 10.0.2.1,
  nodeSelectors: [{matchLabels: {rack: b}}]}
"#;

/// A name that would be an element if the page took it for HTML.
const ODD_POOL: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: "<img src=x onerror=alert(1)>", namespace: metallb-system}
spec: {addresses: [198.51.100.0/30], autoAssign: false}
"#;

const LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers: \"\"";

/// Writes two racks with some services, of which two are not announced.
fn write_racks(folder: &Folder<'_>) -> Result<()> {
    folder.write("configuration.yaml", CONFIGURATION)?;
    let mut nodes = String::new();
    for (name, rack, address) in [
        ("rack-a-1", "a", "10.0.1.11"),
        ("rack-a-2", "a", "10.0.1.12"),
        ("rack-a-3", "a", "10.0.1.13"),
        ("rack-b-1", "b", "10.0.2.11"),
        ("rack-b-2", "b", "10.0.2.12"),
    ] {
        nodes += &node(name, address, &format!("rack: {rack}"));
    }
    nodes += &node("control-plane", "10.0.0.10", LABEL);
    folder.write("nodes.yaml", &nodes)?;
    let of = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let office = ", loadBalancerIP: 192.168.7.240";
    let outside = ", loadBalancerIP: 203.0.113.200";
    let services = [
        service("shop/web", "Cluster", "", &of(&["rack-a-1", "rack-b-1"])),
        service("shop/checkout", "Local", "", &of(&["rack-a-2"])),
        service(
            "shop/search",
            "Local",
            "",
            &of(&["rack-a-1", "rack-a-2", "rack-b-2"]),
        ),
        service("media/images", "Local", "", &of(&["rack-b-1", "rack-b-2"])),
        service("media/stream", "Cluster", "", &of(&["rack-b-1"])),
        service("kube-system/dns", "Cluster", "", &of(&["rack-a-3"])),
        service("office/printer", "Cluster", office, &of(&["rack-a-1"])),
        service("lab/api", "Cluster", "", &[]),
        service("lab/old", "Cluster", outside, &of(&["rack-a-1"])),
    ];
    folder.write("services.yaml", &services.concat())
}

#[test]
fn the_page_shows_a_folder_explains_and_colours_what_if() {
    scenario("ui-folder", |scratch| {
        let folder = Folder::new(scratch)?;
        write_racks(&folder)?;
        let mut page = Page::open(scratch, &["ui", "--port", "0", "-f", "manifests"])?;
        page.until_text("#source", "manifests")?;
        page.until_text(".rows", "shop/checkout")?;
        page.until_text(".flow", "rack-b-2")?;
        page.until_text(".summary", "7 / 9")?;
        page.until_text(".wrong", "NoEndpoints")?;
        // What is wrong is at the top.
        page.until_text("#row-0", "lab/")?;
        page.browser.screenshot(&scratch.file("light.png"))?;
        explains(&mut page)?;
        let picture = kept(scratch, "ui.webp");
        colours(&mut page, &picture)?;
        follows(&mut page, &folder)?;
        folder.write("odd.yaml", ODD_POOL)?;
        page.until_text(".flow", "<img sr")?;
        page.until("document.querySelectorAll('main img').length === 0")?;
        looks_dark(&mut page, scratch)?;
        page.browser.print(&scratch.file("page.pdf"))?;
        ensure!(
            fs::metadata(scratch.file("page.pdf"))?.len() > 10_000,
            "an empty print"
        );
        let text = page.browser.text("document.documentElement.outerHTML")?;
        ensure!(
            !text.contains("kept-to-itself"),
            "a password is on the page"
        );
        ensure!(
            fs::metadata(&picture)?.len() < PICTURE_MAX,
            "the picture in docs is too large"
        );
        page.check_quiet()
    });
}

/// By pointer and by keyboard.
fn explains(page: &mut Page) -> Result<()> {
    page.browser
        .click(".row[title], .rows .row.announced .name")?;
    page.until_text("#details", "announced by")?;
    page.browser.press("Escape")?;
    page.until("document.getElementById('details').hidden")?;
    page.browser.press("/")?;
    page.until("document.activeElement.id === 'filter'")?;
    page.browser.type_text("lab/api")?;
    page.until("document.querySelectorAll('.row').length === 1")?;
    page.browser.press("Enter")?;
    page.until("document.activeElement.id === 'rows'")?;
    page.browser.press("Enter")?;
    page.until_text("#details h2", "lab/api")?;
    page.until_text("#details", "NoEndpoints")?;
    page.until_text("#details .command", "kubectl get endpointslices -n lab")?;
    page.browser.evaluate(
        "(() => { const f = document.getElementById('filter'); f.value = ''; \
         f.dispatchEvent(new Event('input')); })()",
    )?;
    page.until("document.querySelectorAll('.row').length === 9")
}

/// A lost node, and pasted manifests.
fn colours(page: &mut Page, picture: &Path) -> Result<()> {
    let box_of = |name: &str| {
        format!(
            "[...document.querySelectorAll('.flow .box')].find((b) => \
             b.textContent.includes('{name}')).dispatchEvent(new MouseEvent('click', \
             {{ bubbles: true }}))"
        )
    };
    page.browser.evaluate(&box_of("rack-a-2"))?;
    page.until_text("#details h2", "rack-a-2")?;
    page.until("document.querySelectorAll('#details .actions button').length === 2")?;
    page.browser.click("#details .actions button:last-child")?;
    page.until_text("#banner", "What if: lose node rack-a-2?")?;
    page.until_text(".row.would-lost", "shop/checkout")?;
    page.until_text(".row.would-fewer", "shop/web")?;
    page.until("document.querySelectorAll('.edge.gone').length > 0")?;
    page.until("document.querySelectorAll('.cells.gone').length > 1")?;
    page.until_text(".box.lost", "shop/checkout")?;
    page.browser.screenshot(picture)?;
    let yaml = service("lab/api", "Cluster", "", &["rack-b-1".to_owned()]);
    page.browser.evaluate(&format!(
        "(() => {{ const t = document.querySelector('#whatif textarea'); t.value = {}; \
         t.dispatchEvent(new Event('input')); }})()",
        json!(yaml)
    ))?;
    page.until_text(".row.would-gained", "lab/api")?;
    page.browser
        .evaluate("document.querySelector('#whatif textarea').value = 'a: ['")?;
    page.browser
        .evaluate("document.querySelector('#whatif textarea').dispatchEvent(new Event('input'))")?;
    page.until_text("#whatif .result .bad", "line:1")?;
    page.browser.press("Escape")?;
    page.browser
        .evaluate("document.querySelector('#whatif .close').click()")?;
    page.until("document.getElementById('banner').hidden")?;
    page.until("document.querySelectorAll('.would-lost, .edge.gone').length === 0")
}

/// A new service and an excluded node appear.
fn follows(page: &mut Page, folder: &Folder<'_>) -> Result<()> {
    let begun = Instant::now();
    folder.write(
        "new.yaml",
        &service("new/arrival", "Cluster", "", &["rack-b-1".to_owned()]),
    )?;
    page.until_text(".rows", "new/arrival")?;
    eprintln!(
        "a new service is on the page after {} ms",
        begun.elapsed().as_millis()
    );
    folder.remove("new.yaml")?;
    page.until("!document.querySelector('.rows').textContent.includes('new/arrival')")
}

fn looks_dark(page: &mut Page, scratch: &Scratch) -> Result<()> {
    let colour = "getComputedStyle(document.body).backgroundColor";
    let light = page.browser.text(colour)?;
    page.browser.prefer("dark")?;
    let dark = page.browser.text(colour)?;
    ensure!(light != dark, "light and dark are {light}");
    page.browser.screenshot(&scratch.file("dark.png"))?;
    page.browser.press("t")?;
    let chosen = page.browser.text(colour)?;
    ensure!(chosen == light, "the key t does not choose light: {chosen}");
    page.browser.prefer("light")
}

/// 200 nodes in 10 racks and 2,000 services.
fn write_many(folder: &Folder<'_>) -> Result<()> {
    let mut nodes = String::new();
    let mut peers = CONFIGURATION.replace("203.0.113.0/26", "10.200.0.0/16");
    for rack in 0..10 {
        _ = write!(
            peers,
            "---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\n\
             metadata: {{name: leaf-{rack}, namespace: metallb-system}}\n\
             spec: {{myASN: 64512, peerASN: {}, peerAddress: 10.1.{rack}.1, \
             nodeSelectors: [{{matchLabels: {{rack: r{rack}}}}}]}}\n",
            64700 + rack
        );
        for host in 0..20 {
            let name = format!("node-{rack}-{host:02}");
            let address = format!("10.1.{rack}.{}", host + 10);
            nodes += &node(&name, &address, &format!("rack: r{rack}"));
        }
    }
    folder.write("configuration.yaml", &peers)?;
    folder.write("nodes.yaml", &nodes)?;
    let mut services = String::new();
    for number in 0..2000 {
        let at = |i: usize| format!("node-{}-{:02}", (number + i) % 10, (number / 10 + i) % 20);
        let (policy, nodes) = match number % 20 {
            0 => ("Cluster", Vec::new()),
            1..10 => ("Cluster", vec![at(0)]),
            _ => ("Local", (0..5).map(|i| at(i * 3)).collect()),
        };
        services += &service(
            &format!("team-{}/app-{number}", number % 40),
            policy,
            "",
            &nodes,
        );
    }
    folder.write("services.yaml", &services)
}

#[test]
fn thousands_of_services_on_hundreds_of_nodes_are_readable() {
    scenario("ui-many", |scratch| {
        let folder = Folder::new(scratch)?;
        write_many(&folder)?;
        let begun = Instant::now();
        let mut page = Page::open(scratch, &["ui", "--port", "0", "-f", "manifests"])?;
        eprintln!(
            "2,000 services are on the page after {} ms",
            begun.elapsed().as_millis()
        );
        page.until_text(".summary", "1,900 / 2,000")?;
        page.until_text(".flow", "100 services")?;
        let rows = page
            .browser
            .evaluate("document.querySelectorAll('.row').length")?;
        ensure!(
            rows.as_u64().is_some_and(|rows| rows > 10 && rows < 120),
            "{rows} rows"
        );
        let boxes = page
            .browser
            .evaluate("document.querySelectorAll('.box').length")?;
        ensure!(
            boxes.as_u64().is_some_and(|boxes| boxes < 80),
            "{boxes} boxes"
        );
        page.browser.screenshot(&scratch.file("many.png"))?;
        page.browser
            .evaluate("document.getElementById('rows').focus()")?;
        page.browser.press("End")?;
        page.until("document.querySelector('.row.active').id === 'row-1999'")?;
        page.browser.evaluate(
            "(() => { const r = document.querySelector('#whatif'); \
             document.getElementById('assume').click(); const s = \
             document.getElementById('whatif-slider'); s.value = 20; \
             s.dispatchEvent(new Event('input')); return r.hidden; })()",
        )?;
        page.until_text("#banner", "on other nodes")?;
        page.browser.screenshot(&scratch.file("many-lost.png"))?;
        page.check_quiet()
    });
}

#[test]
fn ferrolb_demo_shows_its_world_on_the_page() {
    scenario("ui-demo", |scratch| {
        let mut page = Page::open(scratch, &["demo", "--ui"])?;
        for node in ["node-a", "node-b", "node-c"] {
            page.until_text(".flow", node)?;
        }
        page.until_text(".rows", "default/shop")?;
        page.until_text(".summary", "3 / 3")?;
        page.browser.screenshot(&scratch.file("demo.png"))?;
        // node-b is killed: its session ends.
        page.until_text(".wrong", "session down")?;
        page.until_text(".box.bad", "node-b")?;
        page.server
            .await_log(&["The page shows this state"], TIMEOUT)?;
        page.until_text(".box.bad", "SessionDown")?;
        page.check_quiet()?;
        page.server.terminate(TIMEOUT)?;
        let left = fs::read_dir(std::env::temp_dir())?.filter_map(Result::ok);
        let folder = format!("ferrolb-demo-{}", page.server.pid());
        let left = left.filter(|entry| entry.file_name().to_string_lossy() == folder);
        ensure!(left.count() == 0, "the demo left its folder");
        Ok(())
    });
}

#[test]
fn the_page_shows_a_cluster_and_follows_it() {
    scenario("ui-cluster", |scratch| {
        let topology = Topology::new(2)?;
        let configuration = manifest::join(&[
            &manifest::metallb_peer(""),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
            &manifest::service("web", "", ""),
        ]);
        let rack = Rack::start(scratch, &topology, "ebgp", &configuration)?;
        rack.cp.install_ferrolb_crds()?;
        let addresses = rack.await_addresses("web")?;
        let kubeconfig = rack.cp.admin_kubeconfig().display().to_string();
        let arguments = ["ui", "--port", "0", "--kubeconfig", &kubeconfig];
        let in_cluster = |program| rack.cp.command(program);
        let mut page = Page::open_in(scratch, &arguments, in_cluster)?;
        page.until_text("#status", "live")?;
        page.until_text(".rows", &addresses[0].to_string())?;
        page.until_text(".summary", "sessions established")?;
        page.browser.screenshot(&scratch.file("cluster.png"))?;
        let begun = Instant::now();
        rack.cp.apply(&manifest::service("second", "", ""))?;
        page.until_text(".rows", "default/second")?;
        eprintln!(
            "a new service is on the page after {} ms",
            begun.elapsed().as_millis()
        );
        page.check_quiet()
    });
}

/// What the browser says of an answer.
#[test]
fn a_page_of_another_origin_gets_nothing() {
    scenario("ui-foreign", |scratch| {
        let folder = Folder::new(scratch)?;
        write_racks(&folder)?;
        let mut page = Page::open(scratch, &["ui", "--port", "0", "-f", "manifests"])?;
        let url = page.url.clone();
        page.browser.open("about:blank")?;
        page.until("location.href === 'about:blank'")?;
        for request in [
            format!("fetch('{url}explain/node/rack-a-1')"),
            format!("fetch('{url}what-if', {{ method: 'POST', body: '{{}}' }})"),
            format!(
                "fetch('{url}what-if', {{ method: 'POST', body: '{{}}', \
                     headers: {{ 'content-type': 'application/json' }} }})"
            ),
        ] {
            let outcome = format!("{request}.then((r) => r.text(), () => 'blocked')");
            let answer = page.browser.evaluate(&outcome)?;
            ensure!(answer == "blocked", "{request}: {answer}");
        }
        page.server.ensure_running()
    });
}
