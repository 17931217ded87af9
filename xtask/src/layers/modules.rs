//! The modules of a crate and what they use of each other, read from the sources.
//!
//! A module uses another one if its code has a path into it: in a `use`, an expression, a type or
//! the arguments of a macro. Unit tests don't count. A name that a module re-exports belongs to the
//! module that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::{is_test, rust_files};

/// A module: the names from the root of its crate, which is the empty path.
pub(super) type ModulePath = Vec<String>;

/// The modules of a crate.
pub(super) struct Modules {
    uses: BTreeMap<ModulePath, BTreeSet<ModulePath>>,
}

impl Modules {
    /// Reads all modules below `src`.
    ///
    /// # Errors
    /// With the file that can't be read or parsed.
    pub(super) fn read(src: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for file in rust_files(src)? {
            let inside = file.strip_prefix(src)?;
            if is_test(inside) || inside == Path::new("main.rs") {
                continue;
            }
            let text = fs::read_to_string(&file)?;
            let syntax = syn::parse_file(&text).with_context(|| file.display().to_string())?;
            files.insert(module_path(inside), Paths::of(&syntax));
        }
        Ok(Self::of(&files))
    }

    fn of(files: &BTreeMap<ModulePath, Paths>) -> Self {
        let uses = files.iter().map(|(module, paths)| {
            let used = paths.used.iter();
            let used = used.filter_map(|path| defining_module(files, &absolute(module, path)?));
            (module.clone(), used.collect())
        });
        Self {
            uses: uses.collect(),
        }
    }

    /// For each module with others below it: which of these use which.
    pub(super) fn siblings(&self) -> BTreeMap<ModulePath, Graph> {
        let mut graphs: BTreeMap<ModulePath, Graph> = BTreeMap::new();
        for module in self.uses.keys() {
            if let Some((name, parent)) = module.split_last() {
                let graph = graphs.entry(parent.to_vec()).or_default();
                graph.entry(name.clone()).or_default();
            }
        }
        for (module, used) in self
            .uses
            .iter()
            .flat_map(|(m, all)| all.iter().map(move |u| (m, u)))
        {
            let shared = module.iter().zip(used).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(shared), used.get(shared)) {
                let graph = graphs.entry(module[..shared].to_vec()).or_default();
                graph.entry(from.clone()).or_default().insert(to.clone());
            }
        }
        graphs
    }
}

/// Modules of one parent, and which of the others each of them uses.
pub(super) type Graph = BTreeMap<String, BTreeSet<String>>;

/// A cycle in the graph, from a module back to itself.
pub(super) fn cycle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|start| cycle_from(graph, start, &mut Vec::new(), &mut done))
}

fn cycle_from(
    graph: &Graph,
    module: &str,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = way.iter().position(|passed| passed == module) {
        let mut cycle = way.split_off(start);
        cycle.push(module.to_owned());
        return Some(cycle);
    }
    if !done.insert(module.to_owned()) {
        return None;
    }
    way.push(module.to_owned());
    let used = graph.get(module).into_iter().flatten();
    let found = used
        .into_iter()
        .find_map(|next| cycle_from(graph, next, way, done));
    if found.is_none() {
        way.pop();
    }
    found
}

/// `announce/drain/mod.rs` is the module `announce::drain`.
fn module_path(file: &Path) -> ModulePath {
    let mut path: ModulePath = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if path
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        path.pop();
    }
    path
}

/// A path in a module, from the root of the crate. None if it leads elsewhere.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let parent = &module[..module.len().checked_sub(1)?];
            match rest.first().map(String::as_str) {
                Some("super") => absolute(parent, rest),
                _ => Some([parent, rest].concat()),
            }
        }
        _ => None,
    }
}

/// The module that has what an absolute path names, also where another one re-exports it.
fn defining_module(files: &BTreeMap<ModulePath, Paths>, path: &[String]) -> Option<ModulePath> {
    let length = (0..=path.len()).rfind(|length| files.contains_key(&path[..*length]))?;
    let module = &path[..length];
    let exported = path
        .get(length)
        .and_then(|name| files.get(module)?.exported.get(name));
    match exported.and_then(|target| absolute(module, target)) {
        Some(target) if target != path => defining_module(files, &target),
        _ => Some(module.to_vec()),
    }
}

/// The paths in one file.
#[derive(Default)]
struct Paths {
    used: BTreeSet<Vec<String>>,
    /// Names that `pub use` gives to items of other modules.
    exported: BTreeMap<String, Vec<String>>,
    /// Modules that are declared here: `child::Item` means `self::child::Item`.
    children: BTreeSet<String>,
}

impl Paths {
    fn of(file: &syn::File) -> Self {
        let mut paths = Self::default();
        for item in &file.items {
            if let syn::Item::Mod(module) = item {
                paths.children.insert(module.ident.to_string());
            }
        }
        paths.visit_file(file);
        paths
    }

    fn add(&mut self, mut path: Vec<String>) {
        if path
            .first()
            .is_some_and(|first| self.children.contains(first))
        {
            path.insert(0, "self".to_owned());
        }
        if path
            .first()
            .is_some_and(|first| ["crate", "self", "super"].contains(&first.as_str()))
        {
            self.used.insert(path);
        }
    }

    fn add_use(&mut self, tree: &syn::UseTree, mut prefix: Vec<String>, public: bool) {
        let (name, shown) = match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                return self.add_use(&path.tree, prefix, public);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, prefix.clone(), public);
                }
                return;
            }
            syn::UseTree::Glob(_) => return self.add(prefix),
            syn::UseTree::Name(name) => (&name.ident, &name.ident),
            syn::UseTree::Rename(rename) => (&rename.ident, &rename.rename),
        };
        if name != "self" {
            prefix.push(name.to_string());
        }
        if public {
            let mut target = prefix.clone();
            if target
                .first()
                .is_some_and(|first| self.children.contains(first))
            {
                target.insert(0, "self".to_owned());
            }
            self.exported.insert(shown.to_string(), target);
        }
        self.add(prefix);
    }

    /// Macros have tokens instead of paths: names between `::` are taken for paths.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.add(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.add(std::mem::take(&mut path));
                    self.add_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.add(std::mem::take(&mut path)),
            }
        }
        self.add(path);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            let public = !matches!(item.vis, syn::Visibility::Inherited);
            self.add_use(&item.tree, Vec::new(), public);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        // A single name was imported by a `use`, which counts already.
        if path.segments.len() > 1 {
            self.add(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        attribute.path().is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&str, &str)]) -> BTreeMap<ModulePath, Graph> {
        let files = files.iter().map(|(path, text)| {
            let syntax = syn::parse_file(text).expect("Rust");
            (module_path(Path::new(path)), Paths::of(&syntax))
        });
        Modules::of(&files.collect()).siblings()
    }

    fn uses(graph: &Graph, module: &str) -> Vec<String> {
        graph[module].iter().cloned().collect()
    }

    #[test]
    fn paths_of_all_forms_are_uses() {
        let graphs = modules(&[
            ("lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
            (
                "a.rs",
                "use crate::b::B; use super::c; fn f() { crate::d::g(); log!(crate::e::h()); }",
            ),
            ("b.rs", "struct B;"),
            ("c.rs", "#[cfg(test)] mod tests { use crate::a; }"),
            ("d.rs", "//! See crate::a."),
            ("e/mod.rs", "mod f;"),
            ("e/f.rs", "use super::super::b;"),
        ]);
        let graph = &graphs[&Vec::new()];
        assert_eq!(uses(graph, "a"), ["b", "c", "d", "e"]);
        assert_eq!(uses(graph, "e"), ["b"]);
        assert!(uses(graph, "c").is_empty() && uses(graph, "d").is_empty());
        assert_eq!(cycle(graph), None);
    }

    #[test]
    fn a_re_exported_name_belongs_to_the_module_that_defines_it() {
        let graphs = modules(&[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; mod c; pub use b::B;"),
            ("a/b.rs", "pub struct B;"),
            ("a/c.rs", "use super::B;"),
        ]);
        assert_eq!(uses(&graphs[&vec!["a".to_owned()]], "c"), ["b"]);
    }

    #[test]
    fn a_cycle_is_found_through_any_number_of_modules() {
        let graphs = modules(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b;"),
            ("b.rs", "use crate::c;"),
            ("c.rs", "use crate::b;"),
        ]);
        assert_eq!(
            cycle(&graphs[&Vec::new()]).expect("a cycle"),
            ["b", "c", "b"]
        );
    }
}
