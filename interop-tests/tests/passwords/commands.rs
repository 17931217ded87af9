//! Runs every command that `ferrolb --help` lists, in all forms that its own help lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::kube::deploy;
use ferrolb_interop_tests::process::{Process, ferrolb};
use ferrolb_interop_tests::scenario::Scratch;

use super::Lab;

/// Seconds after which a command that does not end is terminated.
const LIMIT: &str = "60";
/// The same, of a command that never ends.
const ENDLESS_LIMIT: &str = "5";
/// What `timeout` exits with then.
const TIMED_OUT: i32 = 124;
/// Exit codes of invalid arguments, and of a panic.
const FAILURES: [i32; 2] = [2, 101];

/// What a command is run with beside its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    /// Nothing.
    Nothing,
    /// Each format of its output.
    Outputs,
    /// Each of what it can be asked about (manifests with and without mistakes, the cluster, the
    /// daemons), in each format.
    Sources,
    /// Nothing, and it never ends.
    NoEnd,
}

use With::{NoEnd, Nothing, Outputs, Sources};

/// The commands by their words, with arguments. A word in braces is replaced, see [`Lab::word`].
const CASES: &[(&str, &str, With)] = &[
    ("check", "-f {good}", Nothing),
    ("check", "-f {mistakes}", Nothing),
    ("convert", "{texts}/broken.yaml", Nothing),
    ("convert", "{mistakes}/config-map.yaml", Nothing),
    ("convert", "{mistakes}/twice.yaml", Nothing),
    ("convert", "{mistakes}/open-quote.yaml", Nothing),
    ("crds", "", Nothing),
    ("plan", "-f {good}", Outputs),
    ("plan", "-f {mistakes}", Outputs),
    ("plan", "-f {mistakes} --against {good}", Outputs),
    ("plan", "-f {good} --against {mistakes} --prune", Outputs),
    (
        "plan",
        "-f {mistakes} --against live --kubeconfig {kubeconfig}",
        Outputs,
    ),
    (
        "plan",
        "--against live --kubeconfig {kubeconfig} --drain node1",
        Outputs,
    ),
    (
        "plan",
        "--against live --kubeconfig {kubeconfig} --lose node1",
        Outputs,
    ),
    (
        "plan",
        "--against live --kubeconfig {kubeconfig} --lose-peer tor",
        Outputs,
    ),
    ("explain service", "default/web", Sources),
    ("explain service", "default/lan", Sources),
    ("explain address", "{address}", Sources),
    ("explain node", "node1", Sources),
    ("explain peer", "tor", Sources),
    ("explain peer", "controls", Sources),
    ("explain peer", "inline", Sources),
    ("explain peer", "not-text", Sources),
    ("explain peer", "too-long", Sources),
    ("explain peer", "both", Sources),
    ("explain pool", "pool", Sources),
    ("status", "", Sources),
    ("pools", "", Sources),
    (
        "router-config",
        "--for {syntaxes} --router 10.99.0.1",
        Sources,
    ),
    (
        "router-config",
        "--for {syntaxes} --router 10.99.0.202",
        Sources,
    ),
    ("ui", "--port 0 -f {mistakes}", NoEnd),
    ("demo", "", Nothing),
    (
        "migrate",
        "-f {deploy} --dry-run --kubeconfig {kubeconfig}",
        Nothing,
    ),
    (
        "migrate",
        "--undo --dry-run --kubeconfig {kubeconfig}",
        Nothing,
    ),
    (
        "migrate",
        "--finish --dry-run --kubeconfig {kubeconfig}",
        Nothing,
    ),
    (
        "run",
        "--manifests {mistakes} --node-name node1 --metrics-addr 127.0.0.1:0 --socket \
         {texts}/run.sock",
        NoEnd,
    ),
    ("peers", "", Sources),
    ("peer", "tor", Sources),
    ("peer", "controls", Sources),
    ("peer", "inline", Sources),
    ("routes", "", Sources),
    ("probe", "live", Sources),
    ("probe", "ready", Sources),
    ("log", "--socket {announcer}", Outputs),
    ("log", "--socket {announcer} --peer inline", Outputs),
    ("log", "--cluster --kubeconfig {kubeconfig}", Outputs),
    (
        "capture",
        "tor --format mrt --duration 2s --socket {announcer}",
        Nothing,
    ),
    (
        "capture",
        "tor --format pcap --duration 2s --socket {announcer}",
        Nothing,
    ),
    ("l2", "", Sources),
    ("l2", "{address}", Sources),
    ("l2 move", "{address} node1", Sources),
    ("l2 rebalance", "--dry-run", Sources),
    ("l2 test", "{address}", Sources),
    ("completions", "bash", Nothing),
    ("completions", "zsh", Nothing),
    ("completions", "fish", Nothing),
    ("man", "{outputs}/man", Nothing),
    ("help", "", Nothing),
    // For completion scripts; no help lists it.
    ("complete-names", "-- explain peer c", Nothing),
];

/// The help of a command.
fn help(words: &[&str]) -> Result<String> {
    let output = Command::new(ferrolb()?).args(words).arg("-h").output()?;
    ensure!(output.status.success(), "{words:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The commands that a help lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // Further lines of a description are indented more.
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// All commands without further ones, as their words.
fn commands(words: &[&str]) -> Result<Vec<String>> {
    let below = listed(&help(words)?);
    // `help` of the commands below the first ones is the same as their `-h`.
    let below = below
        .into_iter()
        .filter(|name| words.is_empty() || name != "help");
    let mut all = Vec::new();
    for name in below {
        if name == "help" {
            all.push(name);
            continue;
        }
        let inner = commands(&[words, &[name.as_str()]].concat())?;
        let own = inner.is_empty().then(|| name.clone());
        let inner = inner.into_iter().map(|rest| format!("{name} {rest}"));
        all.extend(inner.chain(own));
    }
    Ok(all)
}

/// Fails if a command has no case.
fn every_command_has_a_case() -> Result<()> {
    let cases: BTreeSet<&str> = CASES.iter().map(|(words, ..)| *words).collect();
    let all = commands(&[])?;
    ensure!(all.len() > 20, "{all:?}");
    for command in all {
        ensure!(
            cases.contains(command.as_str()),
            "`ferrolb {command}` has no case in {}: add one, so that its output is searched",
            file!()
        );
    }
    Ok(())
}

/// Arguments with what else a command is run with.
fn variants(lab: &Lab<'_>, help: &str, with: With) -> Vec<Vec<String>> {
    let mut sources: Vec<Vec<String>> = Vec::new();
    if with == Sources {
        for (option, values) in [
            ("--filename", vec!["{good}", "{mistakes}"]),
            ("--kubeconfig", vec!["{kubeconfig}"]),
            ("--socket", vec!["{announcer}", "{layer2}"]),
        ] {
            let values = values.into_iter().filter(|_| help.contains(option));
            sources.extend(values.map(|value| vec![option.to_owned(), lab.word(value)]));
        }
    }
    if sources.is_empty() {
        sources.push(Vec::new());
    }
    let one_line = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let has_formats = one_line.contains("[possible values: table, json]");
    let mut outputs: Vec<Vec<String>> = vec![Vec::new()];
    if has_formats && matches!(with, Sources | Outputs) {
        outputs.push(["-o", "json"].map(str::to_owned).to_vec());
    }
    let joined = |output: &Vec<String>, source: &Vec<String>| [&output[..], source].concat();
    let all = sources
        .iter()
        .flat_map(|source| outputs.iter().map(|output| joined(output, source)));
    all.collect()
}

/// The values of an option that a help lists.
fn syntaxes() -> Result<Vec<String>> {
    let help = help(&["router-config"])?;
    let one_line = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let list = one_line
        .split_once("[possible values: ")
        .context("no values")?
        .1;
    let list = list.split_once(']').context("no end")?.0;
    let syntaxes: Vec<String> = list.split(", ").map(str::to_owned).collect();
    ensure!(syntaxes.len() > 10, "{syntaxes:?}");
    Ok(syntaxes)
}

/// Runs all commands. Their outputs become files.
pub(crate) fn run_all(lab: &Lab<'_>) -> Result<()> {
    every_command_has_a_case()?;
    let syntaxes = syntaxes()?;
    for (place, (words, arguments, with)) in CASES.iter().enumerate() {
        let path: Vec<&str> = words.split(' ').collect();
        let help = match path[..] {
            ["help" | "complete-names"] => String::new(),
            _ => help(&path)?,
        };
        let fixed = arguments.split_whitespace();
        let fixed: Vec<&str> = path.iter().copied().chain(fixed).collect();
        let all = if fixed.contains(&"{syntaxes}") {
            syntaxes.clone()
        } else {
            vec![String::new()]
        };
        for (number, variant) in variants(lab, &help, *with).into_iter().enumerate() {
            for syntax in &all {
                let fixed = fixed.iter().map(|word| match *word {
                    "{syntaxes}" => syntax.clone(),
                    word => lab.word(word),
                });
                let arguments: Vec<String> = fixed.chain(variant.clone()).collect();
                let name = format!("command-{place}-{number}{syntax}");
                run(lab, &name, &arguments, *with == NoEnd)?;
            }
        }
    }
    run_valid_conversion(lab)?;
    run_as_plugin(lab)
}

/// Runs ferrolb with these arguments where the API server is reachable.
fn run(lab: &Lab<'_>, name: &str, arguments: &[String], endless: bool) -> Result<()> {
    let mut command = lab.rack.cp.command("timeout");
    let limit = if endless { ENDLESS_LIMIT } else { LIMIT };
    command.arg(limit).arg(ferrolb()?).args(arguments);
    command
        .env("RUST_LOG", "trace")
        .env("KUBECONFIG", lab.rack.cp.admin_kubeconfig());
    let output = command.output().with_context(|| format!("{arguments:?}"))?;
    let code = output.status.code();
    let timed_out = code == Some(TIMED_OUT);
    let failed = code.is_none_or(|code| FAILURES.contains(&code)) || (timed_out && !endless);
    let shown = [
        format!("$ ferrolb {}\n", arguments.join(" ")).as_bytes(),
        &output.stdout,
        b"\n",
        &output.stderr,
    ]
    .concat();
    ensure!(!failed, "{code:?}: {}", String::from_utf8_lossy(&shown));
    Ok(fs::write(lab.outputs.file(&format!("{name}.txt")), shown)?)
}

/// The only output with passwords: the resources that replace the ConfigMap are as it is
/// (docs/from-metallb.md).
fn run_valid_conversion(lab: &Lab<'_>) -> Result<()> {
    let mut convert = Command::new(ferrolb()?);
    let output = convert
        .arg("convert")
        .arg(lab.word("{texts}/old.yaml"))
        .output()?;
    fs::write(lab.outputs.file("convert-stderr.txt"), &output.stderr)?;
    let text = String::from_utf8(output.stdout)?;
    let with = text.lines().filter(|line| line.contains("echidnas55"));
    let with: Vec<&str> = with.collect();
    ensure!(
        with.len() == 1 && with[0].trim_start().starts_with("password: "),
        "{text}"
    );
    Ok(())
}

/// The names under which kubectl runs ferrolb.
fn run_as_plugin(lab: &Lab<'_>) -> Result<()> {
    for (name, arguments) in [
        ("kubectl-ferrolb", "peers -o json"),
        ("kubectl_complete-ferrolb", "explain peer c"),
    ] {
        let program = lab.scratch.file(name);
        std::os::unix::fs::symlink(ferrolb()?, &program)?;
        let mut command = lab.rack.cp.command(program);
        command.args(arguments.split(' '));
        let output = command
            .env("KUBECONFIG", lab.rack.cp.admin_kubeconfig())
            .output()?;
        ensure!(
            output.status.success() && !output.stdout.is_empty(),
            "{output:?}"
        );
        let shown = [output.stdout, output.stderr].concat();
        fs::write(lab.outputs.file(&format!("{name}.txt")), shown)?;
    }
    Ok(())
}

/// Starts all commands that print what changes, and captures.
pub(crate) fn start_watching(lab: &Lab<'_>) -> Result<Vec<Process>> {
    let mut watching = Vec::new();
    let mut start = |arguments: Vec<String>| {
        let name = format!("watch-{}", watching.len());
        let mut command = lab.rack.cp.command(ferrolb()?);
        command.args(arguments);
        watching.push(Process::start(&lab.outputs, &name, &command)?);
        anyhow::Ok(())
    };
    let mut begun = BTreeSet::new();
    for (words, arguments, with) in CASES {
        let path: Vec<&str> = words.split(' ').collect();
        let watched = *with == Sources && arguments.is_empty() && begun.insert(*words);
        if !watched || !help(&path)?.contains("--watch") {
            continue;
        }
        for variant in variants(lab, &help(&path)?, Sources) {
            // Manifests do not change here.
            if !variant.contains(&"--filename".to_owned()) {
                let path = path.iter().map(|word| (*word).to_owned());
                start(path.chain(["-w".to_owned()]).chain(variant).collect())?;
            }
        }
    }
    let log = ["log", "-w", "--socket", "{announcer}"];
    start(log.into_iter().map(|word| lab.word(word)).collect())?;
    for format in ["mrt", "pcap"] {
        let file = lab.outputs.file(&format!("capture.{format}"));
        let file = file.to_str().context("a path")?;
        let words = ["capture", "tor", "--format", format, "-o", file, "--socket"];
        let words = words.into_iter().map(str::to_owned);
        start(words.chain([lab.word("{announcer}")]).collect())?;
    }
    ensure!(watching.len() > 5, "only {} commands watch", watching.len());
    Ok(watching)
}

/// The folders and files that commands read.
pub(crate) struct Inputs {
    pub good: PathBuf,
    pub mistakes: PathBuf,
    pub texts: PathBuf,
}

impl Inputs {
    /// Creates the folders.
    ///
    /// # Errors
    /// One can't be created.
    pub(crate) fn create(scratch: &Scratch) -> Result<Self> {
        let folder = |name: &str| {
            let path = scratch.file(name);
            fs::create_dir(&path)?;
            anyhow::Ok(path)
        };
        Ok(Self {
            good: folder("good")?,
            mistakes: folder("mistakes")?,
            texts: folder("texts")?,
        })
    }
}

impl Lab<'_> {
    /// A word of an argument, with what its braces mean.
    pub(crate) fn word(&self, word: &str) -> String {
        let paths = [
            ("{good}", self.inputs.good.clone()),
            ("{mistakes}", self.inputs.mistakes.clone()),
            ("{texts}", self.inputs.texts.clone()),
            ("{outputs}", self.outputs.path().to_owned()),
            ("{kubeconfig}", self.rack.cp.admin_kubeconfig()),
            ("{deploy}", deploy().join("ferrolb.yaml")),
            ("{announcer}", self.rack.announcers[0].socket()),
            ("{layer2}", self.layer2[0].socket()),
        ];
        let word = paths
            .into_iter()
            .fold(word.to_owned(), |word, (name, path)| {
                word.replace(name, &path.to_string_lossy())
            });
        word.replace("{address}", &self.address.to_string())
    }
}
