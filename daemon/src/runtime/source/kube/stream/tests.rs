use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The items and metadata of a list that arrives in pieces of this length.
fn split(text: &str, length: usize) -> (Vec<Value>, ListMeta) {
    let mut splitter = Splitter::default();
    let mut items = Vec::new();
    for piece in text.as_bytes().chunks(length) {
        for item in splitter.push(piece) {
            items.push(serde_json::from_slice(&item).expect("an item"));
        }
    }
    (items, splitter.finish().expect("what stands around"))
}

#[test]
fn a_list_is_split_into_items_wherever_its_metadata_is() {
    let item = json!({"metadata": {"name": "a]}\\\"[{"}, "items": [1], "spec": {"items": [{}]}});
    let meta = json!({"resourceVersion": "7", "continue": "x", "remainingItemCount": 1});
    let before = format!(r#"{{"kind":"List", "metadata":{meta}, "items" : [ {item} , {item} ]}}"#);
    let after = format!(r#"{{"apiVersion":"v1","items":[{item},{item}],"metadata":{meta}}}"#);
    for text in [before, after] {
        for length in [1, 7, text.len()] {
            let (items, meta) = split(&text, length);
            assert_eq!(items, [item.clone(), item.clone()], "{length}: {text}");
            assert_eq!(meta.resource_version.as_deref(), Some("7"));
            assert_eq!(meta.next_page.as_deref(), Some("x"));
        }
    }
}

#[test]
fn a_list_may_be_empty_or_null_but_not_truncated() {
    for items in ["[]", "null", "[ ]"] {
        let text = format!(r#"{{"items":{items},"metadata":{{"resourceVersion":"7"}}}}"#);
        let (items, meta) = split(&text, 3);
        assert!(items.is_empty());
        assert_eq!(meta.resource_version.as_deref(), Some("7"));
    }
    let mut splitter = Splitter::default();
    splitter.push(br#"{"metadata":{},"items":[{"a":1},{"b""#);
    assert!(splitter.finish().is_err());
}

#[test]
fn a_line_of_a_watch_is_an_event() {
    let event = |text: &str| serde_json::from_str::<Event>(text).expect("an event");
    let line = r#"{"type":"MODIFIED","object":{"metadata":{"name":"a","resourceVersion":"8"}}}"#;
    assert!(matches!(event(line), Event::Modified(object) if object.resource_version() == "8"));
    let line =
        r#"{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"9"}}}"#;
    assert!(matches!(event(line), Event::Bookmark(object) if object.resource_version() == "9"));
    let line = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#;
    assert!(matches!(event(line), Event::Error(status) if status.code == 410));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u32>().prop_map(Value::from),
        r#"[\[\]{}",:\\ a-z]{0,8}"#.prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(r#"(items|[\[{"\\a-z]{1,4})"#, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_items_are_split_unchanged(
        items in prop::collection::vec(
            prop::collection::btree_map("[a-z]{1,3}|items", value(), 0..4),
            0..6,
        ),
        length in 1..64_usize,
        pretty in any::<bool>(),
    ) {
        let items = items.into_iter().map(|item| Value::Object(item.into_iter().collect()));
        let items: Vec<Value> = items.collect();
        let list = json!({"kind": "List", "metadata": {"resourceVersion": "7"}, "items": items});
        let text = if pretty { format!("{list:#}") } else { list.to_string() };
        let (found, meta) = split(&text, length);
        prop_assert_eq!(found, items);
        prop_assert_eq!(meta.resource_version.as_deref(), Some("7"));
    }
}
