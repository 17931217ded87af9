//! Streams lists and watches object by object: of a list with ten thousand objects, at most one is
//! in memory as text, and one as JSON.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, Status};
use kube::runtime::watcher;
use kube::{Client, Error};
use serde::Deserialize;

use super::client::WATCH_SECONDS;
use super::object::Object;

/// A watch that the API server did not end this long after its time is dead.
const WATCH_MARGIN: Duration = Duration::from_secs(5);

/// The body of a response.
type Body = Pin<Box<dyn AsyncBufRead + Send>>;

/// A list, read page by page.
pub(super) struct List<'a> {
    client: &'a Client,
    url: &'a str,
    params: ListParams,
    body: Option<Body>,
    splitter: Splitter,
    items: VecDeque<Vec<u8>>,
    version: Option<String>,
}

impl<'a> List<'a> {
    /// A list without a request yet.
    pub(super) fn new(client: &'a Client, url: &'a str, params: ListParams) -> Self {
        Self {
            client,
            url,
            params,
            body: None,
            splitter: Splitter::default(),
            items: VecDeque::new(),
            version: None,
        }
    }

    /// Returns the next object, or `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Object>, watcher::Error> {
        loop {
            if let Some(item) = self.items.pop_front() {
                let object = serde_json::from_slice(&item).map_err(Error::SerdeError);
                return object.map(Some).map_err(watcher::Error::InitialListFailed);
            }
            if self.version.is_some() {
                return Ok(None);
            }
            let read = self.read().await;
            read.map_err(watcher::Error::InitialListFailed)?;
            if self.version.as_ref().is_some_and(String::is_empty) {
                return Err(watcher::Error::NoResourceVersion);
            }
        }
    }

    /// The version at which a watch continues after the complete list.
    pub(super) fn into_version(self) -> String {
        self.version.unwrap_or_default()
    }

    /// Reads more octets of the page, or requests the next one.
    async fn read(&mut self) -> Result<(), Error> {
        let Some(body) = &mut self.body else {
            let request = Request::new(self.url).list(&self.params);
            let request = request.map_err(Error::BuildRequest)?;
            self.body = Some(Box::pin(self.client.request_stream(request).await?));
            return Ok(());
        };
        let octets = body.fill_buf().await.map_err(service_error)?;
        let length = octets.len();
        self.items.extend(self.splitter.push(octets));
        body.consume_unpin(length);
        if length > 0 {
            return Ok(());
        }
        self.body = None;
        let meta = std::mem::take(&mut self.splitter).finish();
        let meta = meta.map_err(Error::SerdeError)?;
        match meta.next_page.filter(|token| !token.is_empty()) {
            Some(token) => self.params.continue_token = Some(token),
            None => self.version = Some(meta.resource_version.unwrap_or_default()),
        }
        Ok(())
    }
}

/// An event of a watch.
pub(super) enum WatchEvent {
    /// An object was added or changed.
    Apply(Object),
    /// An object was deleted.
    Delete(Object),
    /// No change up to this version.
    Bookmark,
}

/// A watch in progress.
pub(super) struct WatchStream {
    body: Body,
    line: Vec<u8>,
}

impl WatchStream {
    /// Starts a watch after a version.
    pub(super) async fn start(
        client: &Client,
        url: &str,
        params: &WatchParams,
        version: &str,
    ) -> Result<Self, watcher::Error> {
        let request = Request::new(url).watch(params, version);
        let request = request.map_err(Error::BuildRequest);
        let request = request.map_err(watcher::Error::WatchStartFailed)?;
        let body = client.request_stream(request).await;
        Ok(Self {
            body: Box::pin(body.map_err(watcher::Error::WatchStartFailed)?),
            line: Vec::new(),
        })
    }

    /// Returns the next event and updates `version`. `None` when the API server ends the watch, or
    /// when the watch is dead.
    pub(super) async fn next(
        &mut self,
        version: &mut String,
    ) -> Result<Option<WatchEvent>, watcher::Error> {
        let limit = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_MARGIN;
        self.line.clear();
        let read = self.body.read_until(b'\n', &mut self.line);
        match tokio::time::timeout(limit, read).await {
            Err(_) | Ok(Ok(0)) => return Ok(None),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(watcher::Error::WatchFailed(service_error(error))),
        }
        let event = serde_json::from_slice(&self.line).map_err(Error::SerdeError);
        let event: Event = event.map_err(watcher::Error::WatchFailed)?;
        let (object, constructor): (Object, fn(Object) -> WatchEvent) = match event {
            Event::Added(object) | Event::Modified(object) => (object, WatchEvent::Apply),
            Event::Deleted(object) => (object, WatchEvent::Delete),
            Event::Bookmark(object) => (object, |_| WatchEvent::Bookmark),
            Event::Error(status) => return Err(watcher::Error::WatchError(status)),
        };
        if object.resource_version().is_empty() {
            return Err(watcher::Error::NoResourceVersion);
        }
        object.resource_version().clone_into(version);
        Ok(Some(constructor(object)))
    }
}

fn service_error(error: io::Error) -> Error {
    Error::Service(Box::new(error))
}

/// A line of a watch. The API server writes `type` first, so the object is deserialized without a
/// copy.
#[derive(Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum Event {
    Added(Object),
    Modified(Object),
    Deleted(Object),
    Bookmark(Object),
    Error(Box<Status>),
}

/// Splits the JSON of a list into its items, and collects the rest.
#[derive(Debug, Default)]
struct Splitter {
    envelope: Vec<u8>,
    item: Vec<u8>,
    /// Open braces and brackets: 1 in the list, 2 between items, 3 and more in an item.
    depth: usize,
    among_items: bool,
    in_string: bool,
    escaped: bool,
}

/// The list without its items.
#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(default)]
    metadata: ListMeta,
}

/// Metadata of a list.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next_page: Option<String>,
}

impl Splitter {
    /// Consumes octets and returns the items that are complete.
    fn push(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        let mut items = Vec::new();
        for octet in octets.iter().copied() {
            if self.in_string {
                self.push_octet(octet);
                self.in_string = self.escaped || octet != b'"';
                self.escaped = !self.escaped && octet == b'\\';
                continue;
            }
            match octet {
                b'{' | b'[' => {
                    self.among_items |= octet == b'[' && self.depth == 1 && self.starts_items();
                    self.depth += 1;
                    self.push_octet(octet);
                }
                b'}' | b']' => {
                    self.push_octet(octet);
                    self.depth = self.depth.saturating_sub(1);
                    if self.among_items && self.depth == 2 {
                        items.push(std::mem::take(&mut self.item));
                    }
                    self.among_items &= self.depth >= 2;
                }
                octet => {
                    self.in_string = octet == b'"';
                    self.push_octet(octet);
                }
            }
        }
        items
    }

    fn push_octet(&mut self, octet: u8) {
        if self.among_items && self.depth >= 3 {
            self.item.push(octet);
        } else if !self.among_items || matches!(octet, b'[' | b']') {
            self.envelope.push(octet);
        }
    }

    /// Whether the array that starts here is the list's items.
    fn starts_items(&self) -> bool {
        let before = self.envelope.trim_ascii_end();
        let key = before.strip_suffix(b":").map(<[u8]>::trim_ascii_end);
        key.is_some_and(|key| key.ends_with(b"\"items\""))
    }

    fn finish(&self) -> serde_json::Result<ListMeta> {
        let envelope: Envelope = serde_json::from_slice(&self.envelope)?;
        Ok(envelope.metadata)
    }
}

#[cfg(test)]
mod tests;
