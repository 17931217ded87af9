//! Links between the documents of the repository: each names a file that exists, and a heading of
//! it. The tables of contents, each `README.md` of docs/, lead to every page there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::files::files;
use crate::step::root;

/// The folder whose pages have tables of contents.
const PAGES: &str = "docs/";
/// Their name, in any folder below.
const CONTENTS: &str = "README.md";

/// Parts of a page that stand in another file, which includes them.
const INCLUDED: &[&str] = &[
    "interop-tests/tests/interop/introduction.md",
    "bgp/tests/wire_cases/introduction.md",
    "bgp/tests/wire_cases/rules.md",
];

/// Checks the links of every document, and that the table of contents is complete.
///
/// # Errors
/// With every link that leads nowhere, and every page that the table lacks.
pub(crate) fn check() -> Result<()> {
    let mut documents = BTreeMap::new();
    for file in files(root())? {
        let shown = file.strip_prefix(root()).unwrap_or(&file);
        let name = shown.display().to_string();
        let is_document = shown.extension().is_some_and(|extension| extension == "md");
        if is_document && !INCLUDED.contains(&name.as_str()) {
            let text = fs::read_to_string(&file).with_context(|| name.clone())?;
            documents.insert(name, text);
        }
    }
    let mut found = broken(&documents, &|path| root().join(path).exists());
    found.extend(missing(&documents));
    ensure!(found.is_empty(), "documents:\n  {}", found.join("\n  "));
    Ok(())
}

/// `file:line: what is wrong` of each link that leads nowhere.
fn broken(documents: &BTreeMap<String, String>, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in documents {
        for (line, target) in links(text) {
            if let Some(wrong) = wrong(documents, exists, name, target) {
                found.push(format!("{name}:{line}: {target}: {wrong}"));
            }
        }
    }
    found
}

/// What is wrong with one link.
fn wrong(
    documents: &BTreeMap<String, String>,
    exists: &dyn Fn(&str) -> bool,
    from: &str,
    target: &str,
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let to = if path.is_empty() {
        from.to_owned()
    } else {
        resolve(from, path)
    };
    if !exists(&to) {
        return Some("no such file".to_owned());
    }
    let text = documents.get(&to).filter(|_| !anchor.is_empty())?;
    (!anchors(text).contains(anchor)).then(|| format!("{to} has no such heading"))
}

/// The pages that no table of contents has a link to.
fn missing(documents: &BTreeMap<String, String>) -> Vec<String> {
    let pages = documents.iter().filter(|(name, _)| name.starts_with(PAGES));
    let contents = pages
        .clone()
        .filter(|(name, _)| Path::new(name).ends_with(CONTENTS));
    let linked: BTreeSet<String> = contents
        .flat_map(|(name, text)| {
            let targets = links(text).map(|(_, target)| target);
            targets.map(|target| resolve(name, target.split('#').next().unwrap_or_default()))
        })
        .collect();
    let first = format!("{PAGES}{CONTENTS}");
    pages
        .filter(|(name, _)| **name != first && !linked.contains(*name))
        .map(|(name, _)| format!("{name}: no {CONTENTS} of {PAGES} has a link to it"))
        .collect()
}

/// The path of a link from the root of the repository.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: PathBuf = PathBuf::new();
    let folder = Path::new(from).parent().unwrap_or_else(|| Path::new(""));
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts.display().to_string()
}

/// Lines of a document that are neither in a fenced block nor indented as code, with their number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence && !line.starts_with("    ")).then_some((index + 1, line))
    })
}

/// The targets of the links, with their line.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        line.split("](").skip(1).filter_map(move |rest| {
            let target = rest.split_once(')')?.0;
            Some((number, target))
        })
    })
}

/// The anchors of the headings, as GitHub makes them: lower case, without punctuation, with `-` for
/// a space. The second of one name gets `-1`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let Some(title) = line.trim_start_matches('#').strip_prefix(' ') else {
            continue;
        };
        if !line.starts_with('#') {
            continue;
        }
        let kept = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
            .collect::<String>();
        let anchor = kept.replace(' ', "-");
        let mut unique = anchor.clone();
        let mut number = 0;
        while !anchors.insert(unique.clone()) {
            number += 1;
            unique = format!("{anchor}-{number}");
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(pages: &[(&str, &str)]) -> BTreeMap<String, String> {
        pages
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn a_link_names_a_file_and_a_heading_that_exist() {
        let pages = documents(&[
            ("README.md", "[a](docs/a.md#what-it-is) [b](docs/b.md)"),
            (
                "docs/a.md",
                "# What it is\n\n[up](../README.md) [c](../c.rs)\n[here](#there)",
            ),
        ]);
        let exists = |path: &str| pages.contains_key(path) || path == "c.rs";
        assert_eq!(
            broken(&pages, &exists),
            [
                "README.md:1: docs/b.md: no such file",
                "docs/a.md:4: #there: docs/a.md has no such heading"
            ]
        );
    }

    #[test]
    fn anchors_are_those_of_github() {
        let text = "# A `b`, c?\n## Router's side\n## Router's side\n```\n# no heading\n```\n";
        let expected = ["a-b-c", "routers-side", "routers-side-1"];
        assert!(anchors(text).iter().eq(expected));
    }

    #[test]
    fn code_has_no_links() {
        let text = "```\n[a](b)\n```\n    [c](d)\n[e](f) [g](h)\n";
        let found: Vec<_> = links(text).collect();
        assert_eq!(found, [(5, "f"), (5, "h")]);
    }

    #[test]
    fn the_contents_lead_to_every_page() {
        let pages = documents(&[
            ("docs/README.md", "[a](a.md)"),
            ("docs/a.md", "[b](layer2/b.md)"),
            ("docs/layer2/README.md", "[c](c.md)"),
            ("docs/layer2/b.md", ""),
            ("docs/layer2/c.md", ""),
            ("other/d.md", ""),
        ]);
        let missing = missing(&pages);
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[0].starts_with("docs/layer2/README.md: "));
        assert!(missing[1].starts_with("docs/layer2/b.md: "));
    }
}
