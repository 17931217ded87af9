//! Reads a set of manifests: Services, EndpointSlices, Nodes with their status, and the
//! configuration, as in the API server.
//!
//! A file that can't be read or parsed keeps its last valid objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::documents;
use super::interface_list;
use super::unsupported_kinds::advice;
use super::walk::{FolderId, STANDARD_INPUT, Walk, folder_id};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::config::ConfigPlaces;
use crate::core::index::change::Change;
use crate::core::syntax::SyntaxError;

/// Namespace of namespaced objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// A place in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    /// The file.
    pub file: PathBuf,
    /// The first line of the document, or the line of the error; counted from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = match self.file.as_path() {
            path if path == Path::new(STANDARD_INPUT) => "<stdin>".into(),
            path => path.to_string_lossy(),
        };
        write!(f, "{file}:{}", self.line)
    }
}

/// An object and its place.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    /// Its key.
    pub key: ObjectKey,
    /// The object.
    pub raw: RawObject,
    /// The first line of its document.
    pub location: Location,
}

/// An error in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {message}")]
pub(crate) struct ManifestError {
    /// The place.
    pub location: Location,
    /// What is wrong, and how to fix it.
    pub message: String,
    /// The document as it was probably meant.
    pub correction: Option<String>,
}

impl ManifestError {
    fn new(location: Location, error: SyntaxError) -> Self {
        Self {
            location,
            message: error.message,
            correction: error.correction,
        }
    }
}

/// The contents of a set of manifests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifests {
    /// Objects that ferrolb reads, each key once.
    pub objects: BTreeMap<ObjectKey, Located>,
    /// Errors.
    pub errors: Vec<ManifestError>,
    /// MetalLB's ConfigMaps of interfaces that layer 2 must not use.
    pub interface_lists: Vec<InterfaceList>,
    /// Number of objects of kinds that ferrolb does not read.
    pub others: usize,
    /// The kinds among those that concern load balancers, by apiVersion and kind; ConfigMaps also
    /// by name.
    pub unread: BTreeMap<(String, String), Unread>,
}

/// A ConfigMap of interfaces that layer 2 must not use. It is only checked: the daemon reads it as
/// a file.
#[derive(Clone, Debug)]
pub(crate) struct InterfaceList {
    /// The first line of its document.
    pub location: Location,
    /// Its kind, and its namespace and name.
    pub object: String,
    /// What is wrong, and how to fix it.
    pub error: Option<String>,
}

/// Objects of one kind that ferrolb does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Place of the first one.
    pub location: Location,
    /// Number of objects.
    pub count: usize,
    /// What to do about them.
    pub advice: String,
}

/// The contents of one file.
#[derive(Clone, Debug, Default)]
struct File {
    objects: Vec<Located>,
    errors: Vec<ManifestError>,
    interface_lists: Vec<InterfaceList>,
    others: usize,
    unread: BTreeMap<(String, String), Unread>,
}

/// How long a file that contained objects may be empty before they count as deleted: an editor or a
/// full disk may leave an empty file before it writes the new content.
const EMPTY_GRACE: Duration = Duration::from_secs(5);

/// Reads manifests and keeps the last valid contents of each file.
#[derive(Debug)]
pub(crate) struct Loader {
    paths: Vec<PathBuf>,
    config: ConfigPlaces,
    files: BTreeMap<PathBuf, File>,
    folders: BTreeMap<PathBuf, FolderId>,
    /// Files that contained objects and are now empty, with the time when that was first seen.
    emptied: BTreeMap<PathBuf, Instant>,
}

impl Loader {
    /// A loader for files and folders with their subfolders. Configuration objects without a
    /// namespace belong to the first one of `config`.
    pub(crate) fn new(paths: Vec<PathBuf>, config: ConfigPlaces) -> Self {
        Self {
            paths,
            config,
            files: BTreeMap::new(),
            folders: BTreeMap::new(),
            emptied: BTreeMap::new(),
        }
    }

    /// Reads everything.
    pub(crate) fn load(&mut self) -> Manifests {
        self.reload(Instant::now(), &BTreeSet::new())
    }

    /// Reads everything again except the `unfinished` files. Those and the unreadable ones keep
    /// their last valid contents; an emptied file keeps them for [`EMPTY_GRACE`].
    pub(super) fn reload(&mut self, now: Instant, unfinished: &BTreeSet<PathBuf>) -> Manifests {
        let walk = Walk::of(&self.paths);
        let before = std::mem::take(&mut self.files);
        let mut manifests = Manifests::default();
        for (path, error) in &walk.errors {
            manifests.errors.push(unreadable(path, error));
            let under = before.iter().filter(|(file, _)| file.starts_with(path));
            self.files
                .extend(under.map(|(path, file)| (path.clone(), file.clone())));
        }
        for path in &walk.files {
            let old = before.get(path);
            let file = if unfinished.contains(path) {
                old.cloned()
            } else {
                Some(self.read(now, path, old))
            };
            self.files.extend(file.map(|file| (path.clone(), file)));
        }
        self.emptied.retain(|path, _| walk.files.contains(path));
        for file in self.files.values() {
            manifests.add(file);
        }
        self.folders = walk.folders;
        manifests
    }

    /// The folders of the last read, to be watched.
    pub(super) fn folders(&self) -> &BTreeMap<PathBuf, FolderId> {
        &self.folders
    }

    /// Whether a folder was replaced since the last read, or the grace time of an emptied file is
    /// over.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let roots = self.paths.iter();
        let replaced = roots
            .chain(self.folders.keys())
            .any(|path| folder_id(path) != self.folders.get(path).copied());
        let mut emptied = self.emptied.values();
        replaced || emptied.any(|since| now >= *since + EMPTY_GRACE)
    }

    fn read(&mut self, now: Instant, path: &Path, old: Option<&File>) -> File {
        let mut file = parse(path, &self.config).unwrap_or_else(|error| File {
            errors: vec![unreadable(path, &error)],
            ..File::default()
        });
        let Some(old) = old else {
            return file;
        };
        if !file.errors.is_empty() {
            let kept: Vec<Located> = old
                .objects
                .iter()
                .filter(|old| file.objects.iter().all(|new| new.key != old.key))
                .cloned()
                .collect();
            file.objects.extend(kept);
        }
        if !file.objects.is_empty() || old.objects.is_empty() {
            self.emptied.remove(path);
            return file;
        }
        let since = *self.emptied.entry(path.to_owned()).or_insert(now);
        if now < since + EMPTY_GRACE {
            return old.clone();
        }
        self.emptied.remove(path);
        file
    }
}

impl Unread {
    /// A message about all objects of this kind.
    pub(crate) fn message(&self, (api_version, kind): &(String, String)) -> String {
        let objects = match self.count {
            1 => String::new(),
            count => format!(" ({count} objects, this is the first)"),
        };
        format!(
            "{kind} of {api_version}{objects} has no effect: {}",
            self.advice
        )
    }
}

impl Manifests {
    fn add(&mut self, file: &File) {
        self.errors.extend(file.errors.iter().cloned());
        self.interface_lists
            .extend(file.interface_lists.iter().cloned());
        self.others += file.others;
        for (kind, unread) in &file.unread {
            let known = self.unread.get_mut(kind);
            match known {
                Some(known) => known.count += unread.count,
                None => _ = self.unread.insert(kind.clone(), unread.clone()),
            }
        }
        for object in &file.objects {
            if let Some(first) = self.objects.get(&object.key) {
                self.errors.push(ManifestError {
                    location: object.location.clone(),
                    message: format!(
                        "duplicate {}: already defined at {}; remove one of them",
                        object.key, first.location
                    ),
                    correction: None,
                });
                continue;
            }
            self.objects.insert(object.key.clone(), object.clone());
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ManifestError {
    let location = Location {
        file: path.to_owned(),
        line: 1,
    };
    ManifestError {
        location,
        message: format!("can't be read: {error}"),
        correction: None,
    }
}

/// Reads all objects of a file; `-` is standard input. An invalid object does not hide the others.
fn parse(path: &Path, config: &ConfigPlaces) -> std::io::Result<File> {
    if path == Path::new(STANDARD_INPUT) {
        parse_from(std::io::stdin().lock(), path, config)
    } else {
        let input = BufReader::new(std::fs::File::open(path)?);
        parse_from(input, path, config)
    }
}

fn parse_from(input: impl BufRead, path: &Path, config: &ConfigPlaces) -> std::io::Result<File> {
    let mut file = File::default();
    let mut sink = |line, value: Result<_, SyntaxError>| {
        let location = |line| Location {
            file: path.to_owned(),
            line,
        };
        match value {
            Ok(value) => file.add(value, location(line), config),
            Err(error) => file
                .errors
                .push(ManifestError::new(location(error.line), error)),
        }
    };
    documents::read(input, &mut sink)?;
    Ok(file)
}

/// The objects of a text. `name` stands for the file in errors.
pub(crate) fn of_text(name: &str, text: &str, config: &ConfigPlaces) -> Manifests {
    let mut manifests = Manifests::default();
    match parse_from(text.as_bytes(), Path::new(name), config) {
        Ok(file) => manifests.add(&file),
        Err(error) => manifests.errors.push(unreadable(Path::new(name), &error)),
    }
    manifests
}

/// The objects of a stream of YAML or JSON as they are, those of lists one by one.
///
/// # Errors
/// The first error, with its line.
pub(crate) fn values(input: impl Read) -> Result<Vec<serde_json::Value>, String> {
    let mut objects = Vec::new();
    let mut first_error = None;
    let mut sink = |_, value| match value {
        Ok(value) => objects.extend(items(value)),
        Err(SyntaxError { line, message, .. }) => {
            first_error.get_or_insert(format!("{line}: {message}"));
        }
    };
    documents::read(BufReader::new(input), &mut sink).map_err(|error| error.to_string())?;
    match first_error {
        Some(error) => Err(error),
        None => Ok(objects),
    }
}

impl File {
    fn add(&mut self, value: serde_json::Value, location: Location, config: &ConfigPlaces) {
        let config_namespace = config.default_namespace();
        for item in items(value) {
            match read_object(item, config) {
                Ok(Object::Read(key, raw)) => self.objects.push(Located {
                    key,
                    raw,
                    location: location.clone(),
                }),
                Ok(Object::Other(raw))
                    if interface_list::is_interface_list(&raw, config_namespace) =>
                {
                    self.interface_lists.push(InterfaceList {
                        location: location.clone(),
                        object: format!("ConfigMap {config_namespace}/{}", raw.metadata.name),
                        error: interface_list::check(&raw).err(),
                    });
                }
                Ok(Object::Other(raw)) => self.add_other(&raw, &location, config),
                Err(_) if is_kustomization(&location.file) => self.others += 1,
                Err(message) => self.errors.push(ManifestError {
                    location: location.clone(),
                    message,
                    correction: None,
                }),
            }
        }
    }

    fn add_other(&mut self, raw: &RawObject, location: &Location, config: &ConfigPlaces) {
        self.others += 1;
        let Some(advice) = advice(raw, config) else {
            return;
        };
        // ConfigMaps have different purposes.
        let name = match raw.kind.as_str() {
            "ConfigMap" => format!("ConfigMap {}", raw.metadata.name),
            kind => kind.to_owned(),
        };
        let kind = (raw.api_version.clone(), name);
        let unread = self.unread.entry(kind).or_insert_with(|| Unread {
            location: location.clone(),
            count: 0,
            advice,
        });
        unread.count += 1;
    }
}

/// A kustomization file, which may omit `kind`.
fn is_kustomization(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    matches!(name, Some("kustomization.yaml" | "kustomization.yml"))
}

/// An object of a kind that ferrolb reads, or of another kind.
enum Object {
    Read(ObjectKey, RawObject),
    Other(RawObject),
}

/// The items of a `List`, or the object itself.
pub(super) fn items(mut value: serde_json::Value) -> Vec<serde_json::Value> {
    let is_list = value["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    match value.get_mut("items") {
        Some(serde_json::Value::Array(items)) if is_list => std::mem::take(items),
        _ => vec![value],
    }
}

fn read_object(value: serde_json::Value, config: &ConfigPlaces) -> Result<Object, String> {
    let raw = RawObject::from_json(value)?;
    let Some(kind) = Kind::find(&raw.api_version, &raw.kind) else {
        // This includes kinds of the same name in other groups, such as Knative's Service.
        return if raw.kind.is_empty() {
            Err("kind is missing: write kind: and apiVersion: at the start of each object".into())
        } else {
            Ok(Object::Other(raw))
        };
    };
    if raw.metadata.name.is_empty() {
        return Err(format!("{}: metadata.name is missing", kind.name()));
    }
    if !kind.is_readable_as(&raw.api_version) {
        return Err(format!(
            "{} {}: apiVersion {:?} is not supported, use {}",
            kind.name(),
            raw.metadata.name,
            raw.api_version,
            kind.api_version()
        ));
    }
    let default = if kind.is_configuration() {
        config.default_namespace()
    } else {
        DEFAULT_NAMESPACE
    };
    // ConfigMaps of all names are frequent, and "config" is a frequent one.
    let is_unrelated = |key: &ObjectKey| {
        let ObjectName { namespace, name } = &key.name;
        key.kind == Kind::ConfigMap && (*name != config.config_map || !config.contain(namespace))
    };
    Ok(match raw.key(default) {
        Some(key) if !is_unrelated(&key) => Object::Read(key, raw),
        _ => Object::Other(raw),
    })
}

/// Converts a complete set of objects to the initial list of every kind. Configuration objects
/// count only in a configuration namespace.
pub(crate) fn changes(
    objects: &BTreeMap<ObjectKey, Located>,
    config_namespaces: &[String],
) -> Vec<Change> {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            let of_kind = objects.iter().filter(|(key, _)| {
                let elsewhere =
                    kind.is_configuration() && !config_namespaces.contains(&key.name.namespace);
                key.kind == kind && !elsewhere
            });
            Change::Reset(
                kind,
                of_kind
                    .map(|(key, located)| (key.clone(), located.raw.clone()))
                    .collect(),
            )
        })
        .collect()
}
