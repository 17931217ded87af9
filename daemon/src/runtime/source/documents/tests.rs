use std::fmt::Write;
use std::io::BufReader;

use serde_json::json;

use super::*;

type Found = Vec<(usize, Result<Value, SyntaxError>)>;

fn all(text: impl AsRef<[u8]>) -> Found {
    let mut found = Found::new();
    let input = BufReader::with_capacity(7, text.as_ref());
    read(input, &mut |line, value| found.push((line, value))).expect("memory can be read");
    found
}

fn good(text: impl AsRef<[u8]>) -> Vec<(usize, Value)> {
    let values = all(text).into_iter();
    values
        .map(|(line, value)| (line, value.expect("valid")))
        .collect()
}

#[test]
fn documents_are_separated_and_their_lines_counted() {
    let text = "# head\na: 1\n---\n---\n\nb: 2\n--- {c: 3}\n--- # remark\nd: 4\n...\ne: 5\n";
    let lines = good(text);
    assert_eq!(
        lines,
        [
            (1, json!({ "a": 1 })),
            (5, json!({ "b": 2 })),
            (7, json!({ "c": 3 })),
            (8, json!({ "d": 4 })),
            (11, json!({ "e": 5 })),
        ]
    );
}

#[test]
fn an_invalid_document_hides_no_other_and_reports_its_line() {
    let found = all("a: 1\n---\nb: 1\nc: [\n---\nd: 1\n");
    assert_eq!(found.len(), 3);
    let error = found[1].1.as_ref().expect_err("no YAML");
    assert!((4..=5).contains(&error.line), "{error:?}");
    assert_eq!(found[2], (6, Ok(json!({ "d": 1 }))));
}

#[test]
fn other_encodings_are_reported() {
    let utf16 = |octets: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}a: 1\n".encode_utf16().flat_map(octets).collect()
    };
    for text in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
        let error = all(text).remove(0).1.expect_err("no UTF-8");
        assert_eq!(error.message, "is encoded as UTF-16: save it as UTF-8");
    }
    let error = all(b"a: \xe9\n").remove(0).1.expect_err("Latin-1");
    assert_eq!(error.message, "is not text in UTF-8: save it as UTF-8");
    assert_eq!(good("\u{feff}a: 1\n"), [(1, json!({ "a": 1 }))]);
}

#[test]
fn several_json_objects_in_a_row_are_read() {
    let found = good("{\"a\": 1}\n{\"b\": 2}\n---\nc: 3\n");
    assert_eq!(
        found
            .iter()
            .map(|(_, value)| value.clone())
            .collect::<Vec<_>>(),
        [json!({ "a": 1 }), json!({ "b": 2 }), json!({ "c": 3 })]
    );
}

/// A list whose text is larger than [`WHOLE`].
fn large_yaml(indent: &str) -> (String, usize) {
    let mut text = "apiVersion: v1\nitems:\n# items follow\n".to_owned();
    let mut count = 0;
    while text.len() < WHOLE * 2 {
        write!(
            text,
            "{indent}- kind: Service\n{indent}  spec:\n{indent}    text: |\n\
             {indent}      - no item\n\n{indent}    list:\n{indent}    - {count}\n"
        )
        .expect("memory");
        count += 1;
    }
    text += "kind: List\nmetadata:\n  resourceVersion: \"\"\n";
    (text, count)
}

#[test]
fn items_of_a_large_yaml_list_come_one_by_one_with_their_lines() {
    for indent in ["", "  "] {
        let (text, count) = large_yaml(indent);
        let found = good(format!("before: 1\n---\n{text}---\nafter: 1\n"));
        assert_eq!(found.len(), count + 2);
        let item = |number: usize| {
            let spec = json!({ "text": "- no item\n", "list": [number] });
            json!({ "kind": "Service", "spec": spec })
        };
        assert_eq!(found[1], (6, item(0)));
        assert_eq!(found[count], (6 + 7 * (count - 1), item(count - 1)));
        assert_eq!(found[count + 1].1, json!({ "after": 1 }));
    }
}

#[test]
fn an_invalid_item_of_a_large_list_hides_no_other() {
    let (text, count) = large_yaml("");
    let text = text.replacen("- 7\n", "- [\n", 1);
    let found = all(text);
    assert_eq!(found.len(), count);
    assert!(found[7].1.is_err());
    assert!(found[8].1.is_ok());
}

#[test]
fn items_of_a_large_json_list_come_one_by_one() {
    for pretty in [false, true] {
        let item =
            |number: usize| json!({ "kind": "Service", "text": "x".repeat(200), "n": number });
        let items: Vec<Value> = (0..10_000).map(item).collect();
        let list = json!({ "apiVersion": "v1", "items": items, "kind": "List" });
        let text = if pretty {
            serde_json::to_string_pretty(&list).expect("JSON")
        } else {
            list.to_string()
        };
        let lines = text.lines().count();
        let found = good(format!("{text}\n---\nafter: 1\n"));
        assert_eq!(found.len(), 10_001);
        assert_eq!(found[9_999].1, item(9_999));
        assert_eq!(found[10_000], (lines + 2, json!({ "after": 1 })));
    }
}

#[test]
fn a_truncated_large_json_list_is_an_error_after_its_valid_items() {
    let items: Vec<Value> = (0..10_000)
        .map(|n| json!({ "text": "x".repeat(200), "n": n }))
        .collect();
    let mut text = json!({ "items": items }).to_string();
    text.truncate(text.len() - 10);
    let found = all(text);
    assert_eq!(found.len(), 10_000);
    let error = found[9_999].1.as_ref().expect_err("cut off");
    assert!(
        error.message.contains("the object is not complete"),
        "{error:?}"
    );
}

#[test]
fn an_object_that_is_too_large_is_skipped() {
    let huge = "x".repeat(OBJECT_MAX);
    for huge in [
        format!("a: {huge}\nb: 1\n"),
        format!("{{\"a\": \"{huge}\"}}\n"),
    ] {
        let found = all(format!("{huge}---\nafter: 1\n"));
        let messages: Vec<&str> = found
            .iter()
            .filter_map(|(_, value)| Some(value.as_ref().err()?.message.as_str()))
            .collect();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(
            messages[0].contains("an object is larger than 8 MiB"),
            "{messages:?}"
        );
        assert_eq!(
            found.last().map(|(_, value)| value),
            Some(&Ok(json!({ "after": 1 })))
        );
    }
}

/// An input, such as a pipe or NFS, that fails with an error of the operating system.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn an_io_error_within_a_large_json_list_is_not_a_syntax_error() {
    let item = format!("{{\"a\": \"{}\"}},\n", "x".repeat(1000));
    let text = format!("{{\"items\": [\n{}", item.repeat(2 * WHOLE / item.len()));
    let mut found = Found::new();
    let input = BufReader::new(text.as_bytes().chain(Failing));
    let error = read(input, &mut |line, value| found.push((line, value))).expect_err("fails");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let refused = found.iter().filter(|(_, value)| value.is_err());
    assert_eq!(refused.count(), 0, "no object is at fault");
    assert!(!found.is_empty(), "the items before it are read");
}

#[test]
fn an_alias_bomb_is_an_error() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let many = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(bomb, "a{n}: &a{n} [{many}]").expect("memory");
    }
    let found = all(bomb);
    assert!(found[0].1.is_err(), "{} values", found.len());
}

#[test]
fn a_single_large_object_is_read_as_a_whole() {
    let line = "  a line of a text that a ConfigMap contains\n";
    let lines = WHOLE * 3 / line.len();
    let found = good(format!("a: |\n{}b: 1\n---\nafter: 1\n", line.repeat(lines)));
    assert_eq!(found.len(), 2);
    let text = found[0].1["a"].as_str().expect("a text");
    assert_eq!(text.lines().count(), lines);
    assert_eq!(found[0].1["b"], json!(1));
    assert_eq!(found[1], (lines + 4, json!({ "after": 1 })));
}
