//! Objects that this process alone writes, as they should be: a source with an API server creates,
//! updates and deletes them accordingly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::core::hash::fnv1a;

/// Maximum length of a label's value.
const MAX_LABEL: usize = 63;

/// Complete objects, by name.
pub(crate) type Objects = BTreeMap<String, Arc<Value>>;

/// All objects of one kind that this process is in charge of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StatusObjects {
    /// The objects.
    pub(crate) objects: Objects,
    /// Objects of other processes that may be dead: the names of those that stay, by the labels
    /// that select all of them. If it changes, the others are deleted.
    pub(crate) others: BTreeMap<String, BTreeSet<String>>,
    /// If it changes, all objects are written again: someone else may have changed or deleted them.
    pub(crate) revision: u64,
    /// The writer ends after these.
    pub(crate) last: bool,
}

/// The objects as they should be; none until that is known.
pub(crate) type StatusObjectsSender = watch::Sender<Option<Arc<StatusObjects>>>;
/// The other end.
pub(crate) type StatusObjectsReceiver = watch::Receiver<Option<Arc<StatusObjects>>>;

/// The revisions of objects that are computed again and again: all are written again from time to
/// time. Pure.
#[derive(Debug)]
pub(crate) struct Revisions {
    every: Duration,
    last: Instant,
    revision: u64,
}

impl Revisions {
    pub(crate) const fn new(now: Instant, every: Duration) -> Self {
        Self {
            every,
            last: now,
            revision: 0,
        }
    }

    /// Has all objects written again.
    pub(crate) const fn advance(&mut self) {
        self.revision += 1;
    }

    /// What to send to the writer, which has `sent`; none if that is the same.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        sent: Option<&StatusObjects>,
        new: StatusObjects,
    ) -> Option<StatusObjects> {
        if now.saturating_duration_since(self.last) >= self.every {
            self.last = now;
            self.advance();
        }
        let revision = self.revision;
        let new = StatusObjects { revision, ..new };
        (sent != Some(&new)).then_some(new)
    }
}

/// Returns once the node leaves for good.
pub(crate) async fn node_leaves(leaving: &mut watch::Receiver<bool>) {
    if leaving.wait_for(|leaving| *leaving).await.is_err() {
        // The process ends, and starts again.
        std::future::pending().await
    }
}

/// Deletes all objects. Returns once they are deleted.
pub(crate) async fn delete_all(objects: &StatusObjectsSender) {
    let last = true;
    objects.send_replace(Some(Arc::new(StatusObjects {
        last,
        ..StatusObjects::default()
    })));
    objects.closed().await;
}

/// The owner of objects about a node: Kubernetes deletes them with the Node.
pub(crate) fn node_owner(node: &str, uid: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "name": node, "uid": uid })
}

/// A value for a label that stands for the text: the text itself, or if that is too long or has
/// characters that labels can't have, a readable part and a hash.
pub(crate) fn label(text: &str) -> String {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = text.len() <= MAX_LABEL && text.chars().all(valid);
    if fits && ends(text.chars().next()) && ends(text.chars().next_back()) {
        return text.to_owned();
    }
    hashed(text, text, MAX_LABEL)
}

/// A readable form of the text with at most `max` octets that ends in a hash of the identity. It is
/// a valid name and a valid label.
pub(crate) fn hashed(text: &str, identity: &str, max: usize) -> String {
    let hash = format!("{:016x}", fnv1a(identity));
    let readable = text.chars().map(|c| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    });
    let readable: String = readable.take(max - hash.len() - 1).collect();
    match readable.trim_matches('-') {
        "" => hash,
        readable => format!("{readable}-{hash}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_sent_when_they_change_and_again_after_the_interval() {
        let (start, every) = (Instant::now(), Duration::from_mins(1));
        let mut revisions = Revisions::new(start, every);
        let object = |name: &str| StatusObjects {
            objects: [(name.to_owned(), Arc::default())].into(),
            ..StatusObjects::default()
        };
        let first = revisions.next(start, None, object("a"));
        assert_eq!(first, Some(object("a")));
        let mut sent = |seconds, sent: &StatusObjects, name| {
            let now = start + Duration::from_secs(seconds);
            revisions.next(now, Some(sent), object(name))
        };
        assert_eq!(sent(59, &object("a"), "a"), None);
        assert_eq!(sent(59, &object("a"), "b"), Some(object("b")));
        let again = sent(60, &object("b"), "b").expect("written again");
        assert_eq!((&again.objects, again.revision), (&object("b").objects, 1));
        assert_eq!(sent(61, &again, "b"), None);
        revisions.advance();
        let now = start + Duration::from_secs(62);
        assert!(revisions.next(now, Some(&again), object("b")).is_some());
    }

    #[tokio::test]
    async fn a_node_that_leaves_has_the_last_objects_of_all_deleted() {
        let (leaving, mut left) = watch::channel(false);
        let (objects, mut received) = watch::channel(None);
        let publisher = tokio::spawn(async move {
            node_leaves(&mut left).await;
            delete_all(&objects).await;
        });
        leaving.send_replace(true);
        received.changed().await.expect("a publisher");
        let last = received.borrow_and_update().clone().expect("objects");
        assert!(last.last && last.objects.is_empty(), "{last:?}");
        drop(received);
        publisher.await.expect("no panic");
    }

    #[test]
    fn a_label_is_the_text_or_a_valid_part_with_a_hash() {
        assert_eq!(label("node-a.example.com"), "node-a.example.com");
        let long = format!("{}.example.com", "a".repeat(62));
        let (short, other) = (label(&long), label(&format!("{long}x")));
        assert!(
            short.len() == MAX_LABEL && other.len() == MAX_LABEL,
            "{short}"
        );
        assert_ne!(short, other);
        let odd = label("rack@fd00::7");
        assert!(odd.starts_with("rack-fd00--7-"), "{odd}");
        assert_eq!(label("::").len(), 16, "nothing readable");
    }
}
