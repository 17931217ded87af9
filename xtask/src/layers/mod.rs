//! Which crate and which module may use which: checked against the dependency graph of cargo and
//! against the sources.

mod modules;

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use self::modules::{Graph, Modules};
use crate::files::files;
use crate::step::{cargo, output, root, show_and_run};

/// Arguments of `cargo tree`, and the packages that may not appear there.
const GRAPHS: &[(&str, &[&str])] = &[
    (
        "-p ferrolb-bgp --no-default-features",
        &[
            "tokio",
            "socket2",
            "kube",
            "k8s-openapi",
            "ferrolb-allocator",
            "ferrolb-layer2",
        ],
    ),
    (
        "-p ferrolb-bgp --all-features",
        &["kube", "k8s-openapi", "ferrolb-allocator", "ferrolb-layer2"],
    ),
    (
        "-p ferrolb-allocator --all-features",
        &[
            "tokio",
            "kube",
            "k8s-openapi",
            "ferrolb-bgp",
            "ferrolb-layer2",
        ],
    ),
    (
        "-p ferrolb-layer2 --no-default-features",
        &[
            "tokio",
            "socket2",
            "rustix",
            "tracing",
            "kube",
            "k8s-openapi",
            "ferrolb-bgp",
            "ferrolb-allocator",
        ],
    ),
    (
        "-p ferrolb-layer2 --all-features",
        &["kube", "k8s-openapi", "ferrolb-bgp", "ferrolb-allocator"],
    ),
];

/// Clocks, sockets and random sources.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::thread",
    "Rng::new()",
];

/// Folders or files, what their code may not name, and what is exempt.
const SOURCES: &[(&str, &[&str], &[&str])] = &[
    ("bgp/src", IMPURE, &["bgp/src/speaker"]),
    ("allocator/src", IMPURE, &[]),
    ("layer2/src", IMPURE, &["layer2/src/driver"]),
    (
        "daemon/src",
        &["k8s_openapi", "use kube::", "use ::kube", "kube::Client"],
        &["daemon/src/runtime/source/kube", "daemon/src/core/api"],
    ),
    ("daemon/src/core", &["tokio", "axum", "std::fs"], &[]),
    (
        "daemon/src/core",
        IMPURE,
        &["daemon/src/core/panic_context.rs"],
    ),
    (
        "bgp/src",
        &["allow(unsafe_code)"],
        &["bgp/src/speaker/sockopt.rs"],
    ),
    (
        "layer2/src",
        &["allow(unsafe_code)"],
        &["layer2/src/driver/packet_socket.rs"],
    ),
    ("allocator/src", &["allow(unsafe_code)"], &[]),
    ("daemon/src", &["allow(unsafe_code)"], &[]),
];

/// Crates whose modules are looked at.
const CRATES: &[&str] = &["allocator", "bgp", "daemon", "layer2"];

/// Modules of one parent from the bottom to the top: each may use those before it, no others.
/// In all other folders the modules may use each other in any order, but not in a cycle.
const ORDERS: &[(&str, &str, &[&str])] = &[
    (
        "bgp",
        "",
        &[
            "seconds", "wire", "bfd", "capture", "config", "rib", "fsm", "bmp", "speaker",
        ],
    ),
    (
        "layer2",
        "",
        &[
            "mac",
            "limits",
            "seconds",
            "interface",
            "config",
            "status",
            "moves",
            "wire",
            "routers",
            "responder",
            "membership",
            "ownership",
            "machine",
            "driver",
        ],
    ),
    ("daemon", "", &["core", "runtime", "cli"]),
    (
        "daemon",
        "core",
        &[
            "hash",
            "nearest",
            "syntax",
            "printable",
            "panic_context",
            "api",
            "owners",
            "model",
            "config",
            "index",
            "decide",
            "allocate",
            "plan",
            "overview",
            "router_config",
            "explain",
            "picture",
        ],
    ),
];

/// The modules that docs/ARCHITECTURE.md lists: the crate, and their parent.
const DRAWN: &[(&str, &str)] = &[
    ("bgp", ""),
    ("bgp", "fsm"),
    ("layer2", ""),
    ("daemon", ""),
    ("daemon", "core"),
    ("daemon", "runtime"),
];

const PAGE: &str = "docs/ARCHITECTURE.md";
const BEGIN: &str = "<!-- modules -->\n";
const END: &str = "<!-- /modules -->";

/// Checks all rules, that the crates without I/O compile without it, and that the daemon does
/// without layer 2.
///
/// # Errors
/// With every place that breaks a rule.
pub(crate) fn check() -> Result<()> {
    let mut found = Vec::new();
    for (selection, forbidden) in GRAPHS {
        let mut tree = cargo(&["tree", "--edges=normal", "--prefix=none"]);
        let tree = output(tree.args(selection.split(' ')))?;
        found.extend(
            known_packages(&tree, forbidden)
                .map(|package| format!("cargo tree {selection}: depends on {package}")),
        );
    }
    for (folder, forbidden, exempt) in SOURCES {
        for file in rust_files(&root().join(folder))? {
            let shown = file.strip_prefix(root()).unwrap_or(&file);
            if exempt.iter().any(|exempt| shown.starts_with(exempt)) || is_test(shown) {
                continue;
            }
            let text = fs::read_to_string(&file)?;
            found.extend(
                forbidden_lines(&text, forbidden)
                    .map(|(number, word)| format!("{}:{number}: {word}", shown.display())),
            );
        }
    }
    let mut drawn = String::new();
    for name in CRATES {
        let graphs = Modules::read(&root().join(name).join("src"))?.siblings();
        for (parent, graph) in &graphs {
            let parent = parent.join("::");
            found.extend(broken(name, &parent, graph));
            if DRAWN.contains(&(name, &parent)) {
                drawn.push_str(&drawing(name, &parent, graph));
            }
        }
    }
    ensure!(
        found.is_empty(),
        "not allowed (the rules are in xtask/src/layers/mod.rs):\n  {}",
        found.join("\n  ")
    );
    check_page(&drawn)?;
    let packages = [
        "ferrolb-bgp",
        "ferrolb-allocator",
        "ferrolb-layer2",
        "ferrolb",
    ];
    for package in packages {
        show_and_run(&mut cargo(&[
            "check",
            "-q",
            "-p",
            package,
            "--no-default-features",
        ]))?;
    }
    println!(
        "    {} dependency graphs, {} rules on sources, modules of {} crates: all rules kept",
        GRAPHS.len(),
        SOURCES.len(),
        CRATES.len()
    );
    Ok(())
}

/// What the modules of one parent do against their order, or a cycle among them.
fn broken(name: &str, parent: &str, graph: &Graph) -> Vec<String> {
    let place = |module: &str| match parent {
        "" => format!("{name}: {module}"),
        parent => format!("{name}: {parent}::{module}"),
    };
    let order = ORDERS.iter().find(|(a, b, _)| (*a, *b) == (name, parent));
    let Some((_, _, order)) = order else {
        let cycle = modules::cycle(graph).map(|cycle| cycle.join(" -> "));
        return cycle
            .map(|cycle| format!("{}: cycle {cycle}", place("*")))
            .into_iter()
            .collect();
    };
    let level = |module: &str| order.iter().position(|ordered| *ordered == module);
    let mut broken = Vec::new();
    for (module, used) in graph {
        if level(module).is_none() {
            broken.push(format!("{}: has no place in ORDERS", place(module)));
        }
        let above = used.iter().filter(|used| level(used) >= level(module));
        broken
            .extend(above.map(|used| format!("{}: uses {used}, which is above it", place(module))));
    }
    broken
}

/// The modules of one parent, each above those that it uses.
fn drawing(name: &str, parent: &str, graph: &Graph) -> String {
    let mut modules: Vec<&String> = graph.keys().collect();
    modules.sort_by_key(|module| Reverse(height(graph, module, graph.len())));
    let width = modules
        .iter()
        .map(|module| module.len())
        .max()
        .unwrap_or_default();
    let mut text = format!("    {name}/src/{}\n", parent.replace("::", "/"));
    for module in modules {
        let uses: Vec<&str> = graph[module].iter().map(String::as_str).collect();
        let line = format!("        {module:width$}  {}", uses.join(" "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text + "\n"
}

/// How many modules are below this one on the longest way down; at most `limit`, in a cycle.
fn height(graph: &Graph, module: &str, limit: usize) -> usize {
    let used = graph.get(module).into_iter().flatten();
    let below = used.filter(|_| limit > 0);
    below
        .map(|used| 1 + height(graph, used, limit - 1))
        .max()
        .unwrap_or_default()
}

/// Checks that the page lists the modules as they are; with UPDATE_DOCS=1 writes them there.
fn check_page(drawn: &str) -> Result<()> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path)?;
    let parts = page
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (listed, after)) =
        parts.with_context(|| format!("{PAGE}: no lines {} and {END}", BEGIN.trim_end()))?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}\n{drawn}{END}{after}"))?;
        return Ok(());
    }
    ensure!(
        listed.trim() == drawn.trim(),
        "{PAGE} lists other modules than there are: UPDATE_DOCS=1 cargo xtask test layers"
    );
    Ok(())
}

/// Which of `forbidden` are in what `cargo tree --prefix=none` printed.
fn known_packages<'a>(tree: &'a str, forbidden: &'a [&str]) -> impl Iterator<Item = &'a str> {
    // The first line is the package itself.
    let names: Vec<&str> = tree
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .collect();
    forbidden
        .iter()
        .filter(move |package| names.contains(*package))
        .copied()
}

/// Line numbers at which code, not a comment and not a unit test, names something forbidden.
fn forbidden_lines<'a>(
    text: &'a str,
    forbidden: &'a [&str],
) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines()
        .enumerate()
        // Short unit tests stand at the end of their file.
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter_map(|(index, line)| {
            let word = forbidden.iter().find(|word| line.contains(**word))?;
            Some((index + 1, *word))
        })
}

fn is_test(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs")
        || file.components().any(|part| part.as_os_str() == "tests")
}

fn rust_files(folder: &Path) -> Result<impl Iterator<Item = PathBuf>> {
    let files = files(folder)?.into_iter();
    Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_package_is_found_by_its_whole_name() {
        let tree =
            "ferrolb-bgp v0.1.0 (/work)\nbytes v1.12.1\ntokio-util v0.7\ntokio v1.54.1 (*)\n";
        let found: Vec<_> = known_packages(tree, &["tokio", "util", "ferrolb-bgp"]).collect();
        assert_eq!(found, ["tokio"]);
    }

    #[test]
    fn code_is_searched_and_comments_and_tests_are_not() {
        let text = "// Instant::now\nlet now = Instant::now();\n#[cfg(test)]\nInstant::now\n";
        let found: Vec<_> = forbidden_lines(text, IMPURE).collect();
        assert_eq!(found, [(2, "Instant::now")]);
    }
}
