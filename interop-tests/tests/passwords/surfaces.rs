//! What ferrolb shows without a command: control sockets, HTTP, the page, BMP, and objects.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{Process, ferrolb};
use serde_json::{Value, json};

use super::objects::MISTAKES;
use super::{Lab, TIMEOUT};

/// How long an answer is read.
const ANSWER: Duration = Duration::from_secs(3);
/// Peers that are asked about.
const PEERS: [&str; 5] = ["tor", "controls", "inline", "not-text", "both"];
/// The kinds of objects in which ferrolb writes.
const KINDS: &str = "events,bgpsessions.ferrolb.io,servicel2statuses.metallb.io,\
                     servicebgpstatuses.metallb.io,configurationstates.metallb.io,services,leases,\
                     ipaddresspools.metallb.io,nodes";

/// Sends every request that the protocol has to each control socket.
pub(crate) fn ask_sockets(lab: &Lab<'_>) -> Result<()> {
    for (name, process) in [
        ("announcer", &lab.rack.announcers[0]),
        ("layer2", &lab.layer2[0]),
    ] {
        let socket = process.socket();
        let unknown = ask(&socket, &json!({"command": "?"}))?;
        let commands = expected(&unknown)?;
        let mut all = unknown;
        all += &ask(&socket, &json!({"command": ["peers"]}))?;
        for command in commands {
            for mut request in requests(lab, &command)? {
                request["command"] = json!(command);
                let answer = ask(&socket, &request)?;
                ensure!(!answer.is_empty(), "no answer to {request}");
                all += &format!("{request}\n{answer}\n");
            }
        }
        fs::write(lab.outputs.file(&format!("socket-{name}.txt")), all)?;
    }
    Ok(())
}

/// The commands that the answer to an unknown one names.
fn expected(answer: &str) -> Result<Vec<String>> {
    let (_, list) = answer
        .split_once("expected one of ")
        .context("no commands")?;
    let commands: Vec<String> = list
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    ensure!(commands.len() > 10, "{answer}");
    Ok(commands)
}

/// Requests with a command, without its name.
fn requests(lab: &Lab<'_>, command: &str) -> Result<Vec<Value>> {
    let of_peers = || PEERS.map(|peer| json!({"peer": peer})).to_vec();
    let address = lab.address;
    Ok(match command {
        "peers" | "refused" | "withheld" | "l2Rebalance" => vec![json!({})],
        "peer" => of_peers(),
        "log" | "routes" => [vec![json!({})], of_peers()].concat(),
        "capture" => vec![json!({"peer": "tor"}), json!({"peer": "inline"})],
        "explain" => vec![
            json!({"service": "default/web"}),
            json!({"service": "default/lan"}),
        ],
        "probe" => vec![json!({"probe": "live"}), json!({"probe": "ready"})],
        "l2" => vec![json!({}), json!({"address": address})],
        "l2Move" => vec![json!({"address": address, "node": "node1"})],
        "l2Test" => vec![json!({"address": address})],
        _ => bail!(
            "the control socket's command {command} has no case in {}: add one, so that its \
             answer is searched",
            file!()
        ),
    })
}

/// What a daemon answers within a limit.
fn ask(socket: &Path, request: &Value) -> Result<String> {
    let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    // It closes the connection after the answer, except a capture.
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let begun = Instant::now();
    let (mut answer, mut octets) = (Vec::new(), [0; 65_536]);
    while begun.elapsed() < ANSWER {
        match stream.read(&mut octets) {
            Ok(0) => break,
            Ok(count) => answer.extend(&octets[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The response to an HTTP request from inside a namespace, as far as it comes within a limit.
fn http(mut command: Command, port: u16, request: &str) -> Result<String> {
    // Bash's own client: the wget of Debian's static busybox crashes.
    const ASK: &str = r#"exec 3<>"/dev/tcp/127.0.0.1/$0" && printf '%s' "$1" >&3 &&
        exec timeout 3 cat <&3"#;
    let output = command
        .args(["-c", ASK, &port.to_string(), request])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.starts_with("HTTP/1."), "{request}: {output:?}");
    Ok(text)
}

/// Reads what all processes serve over HTTP.
pub(crate) fn get_metrics(lab: &Lab<'_>) -> Result<()> {
    let processes = lab.rack.allocators.iter().chain(&lab.rack.announcers);
    for (number, process) in processes.chain(&lab.layer2).enumerate() {
        let mut all = process.get("/metrics")?;
        ensure!(all.contains("ferrolb_"), "no metrics: {all}");
        for path in ["/livez", "/readyz", "/", "/debug", "/metrics?password=1"] {
            // An error has the whole response.
            all += &process
                .get(path)
                .unwrap_or_else(|error| format!("{error:#}"));
        }
        fs::write(lab.outputs.file(&format!("http-{number}.txt")), all)?;
    }
    Ok(())
}

/// Reads the page of a cluster and of manifests: all files, pictures, explanations and what-ifs.
pub(crate) fn read_pages(lab: &Lab<'_>) -> Result<()> {
    for (name, source) in [
        ("ui-cluster", ["--kubeconfig", "{kubeconfig}"]),
        ("ui-good", ["-f", "{good}"]),
        ("ui-mistakes", ["-f", "{mistakes}"]),
    ] {
        let mut command = lab.rack.cp.command(ferrolb()?);
        command.args(["ui", "--port", "0"]);
        command
            .args(source.map(|word| lab.word(word)))
            .env("RUST_LOG", "trace");
        let mut server = Process::start(&lab.outputs, name, &command)?;
        server.await_log(&["http://127.0.0.1:"], TIMEOUT)?;
        let log = server.log_text()?;
        let (_, port) = log.split_once("http://127.0.0.1:").context("no address")?;
        let port = port.split('/').next().context("no port")?.parse()?;
        let all = read_page(lab, port)?;
        fs::write(lab.outputs.file(&format!("{name}.txt")), all)?;
        server.terminate(TIMEOUT)?;
    }
    Ok(())
}

fn read_page(lab: &Lab<'_>, port: u16) -> Result<String> {
    let head = format!("Host: 127.0.0.1:{port}\r\nConnection: close\r\n");
    let ask = |request: &str| http(lab.rack.cp.command("bash"), port, request);
    let get = |path: &str| ask(&format!("GET {path} HTTP/1.1\r\n{head}\r\n"));
    let mut paths = vec!["/".to_owned()];
    let mut all = String::new();
    let mut read = 0;
    while let Some(path) = paths.get(read).cloned() {
        read += 1;
        let text = get(&path)?;
        ensure!(text.contains(" 200 "), "{path}: {text}");
        for name in text.split(['"', '\'']) {
            let name = format!("/{}", name.trim_start_matches("./").trim_start_matches('/'));
            let is_file = [".js", ".css", ".svg"]
                .iter()
                .any(|end| name.ends_with(end));
            if is_file && !name.contains([' ', '$', '\n']) && !paths.contains(&name) {
                paths.push(name);
            }
        }
        all += &text;
    }
    ensure!(read > 10, "only these files: {paths:?}");
    let events = get("/events")?;
    ensure!(events.contains("event: picture"), "no picture: {events}");
    all += &events;
    let peers = PEERS.map(|peer| format!("peer/{peer}"));
    let subjects = [
        "service/default/web".to_owned(),
        "service/default/lan".to_owned(),
        "node/node1".to_owned(),
        "pool/pool".to_owned(),
        format!("address/{}", lab.address),
    ];
    for subject in subjects.iter().chain(&peers) {
        all += &get(&format!("/explain/{subject}"))?;
    }
    let mut assumptions = vec![json!({"events": [{"drain": "node1"}, {"losePeer": "tor"}]})];
    for name in MISTAKES {
        let text = fs::read_to_string(lab.inputs.mistakes.join(name))?;
        assumptions.push(json!({ "manifests": text }));
    }
    for assumption in assumptions {
        let body = assumption.to_string();
        let more = format!(
            "Origin: http://127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        all += &ask(&format!("POST /what-if HTTP/1.1\r\n{head}{more}\r\n{body}"))?;
    }
    Ok(all)
}

/// Writes the objects in which ferrolb writes.
pub(crate) fn get_objects(lab: &Lab<'_>) -> Result<()> {
    let yaml = lab.rack.cp.kubectl(&["get", KINDS, "-A", "-o", "yaml"])?;
    for kind in [
        "Event",
        "BGPSession",
        "ServiceL2Status",
        "ServiceBGPStatus",
        "ConfigurationState",
    ] {
        let line = format!("kind: {kind}");
        ensure!(yaml.lines().any(|found| found.trim() == line), "no {kind}");
    }
    Ok(fs::write(lab.outputs.file("objects.yaml"), yaml)?)
}

/// A BMP collector that writes what it receives to a file.
pub(crate) struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file.
    pub file: PathBuf,
}

impl Collector {
    /// Listens in a namespace until the program ends.
    ///
    /// # Errors
    /// There is no free port.
    pub(crate) fn start(host: &Namespace, file: PathBuf) -> Result<Self> {
        let listener = host
            .open()?
            .inside(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let address = listener.local_addr()?;
        let mut output = File::create(&file)?;
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Ends with the daemon.
                _ = io::copy(&mut stream, &mut output);
            }
        });
        Ok(Self { address, file })
    }
}
