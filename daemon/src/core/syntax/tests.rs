use super::*;

fn found(text: &str) -> SyntaxError {
    let error = serde_saphyr::from_str::<serde_json::Value>(text).expect_err("no YAML");
    yaml(text, 5, &error)
}

/// The text, the line of the error, and a part of the message with cause and remedy.
const CASES: &[(&str, usize, &str)] = &[
    (
        "a: 1\na: 2\n",
        6,
        "column 1: a field is given twice in one object: remove one",
    ),
    ("a:\n\tb: 1\n", 6, "a tab is not allowed here: write spaces"),
    (
        "a:\n  b: 1\n\tc: 1\n",
        7,
        "a tab is not allowed here: write spaces",
    ),
    (
        "a: \"x\nb: 1\n",
        6,
        "a quote that is opened here or before is not closed",
    ),
    (
        "a: 'b''\n",
        5,
        "a quote that is opened here or before is not closed",
    ),
    (
        "a: \"x\" y\n",
        5,
        "text follows a closing quote: put all of the value in quotes",
    ),
    ("a: \"\\q\"\n", 5, "write \\\\ for a backslash"),
    ("a: [1, 2\nb: 1\n", 6, "each [ and { is closed"),
    ("a: {b: 1\nc: 1\n", 6, "each [ and { is closed"),
    ("a: [1}\n", 5, "a [ is closed by }"),
    ("a: ]\n", 5, "each [ and { is closed"),
    ("{\"a\": 1 \"b\": 2}\n", 5, "put commas between the entries"),
    (
        "a:\n  b: 1\n c: 2\n",
        7,
        "column 2: the indentation fits none of the lines above",
    ),
    (
        "a:\n  - b\n - c\n",
        7,
        "the indentation fits none of the lines above",
    ),
    (
        "a: x\n  b: 1\n",
        6,
        "a field can't begin here: indent it as the fields before",
    ),
    ("a: b: c\n", 5, "put a text that contains a colon in quotes"),
    ("a: 1\nbcd\ne: 1\n", 6, "a field needs a colon and a space"),
    (
        "a: *.example.com\n",
        5,
        "put the value in quotes if it is a text",
    ),
    (
        "a: @x\n",
        5,
        "column 4: the character is not allowed here: put the value in quotes",
    ),
    ("a: b\u{1b}c\n", 5, "`\\u{1b}` is not allowed here"),
    ("a: |x\n  b\n", 5, "a block of text needs | or >"),
    (
        "a: !foo!bar x\n",
        5,
        "a value that begins with ! is read as a tag",
    ),
    ("a: 1e999\n", 5, "a number is too large or not a number"),
    ("<<: 1\n", 5, "write the fields out"),
    ("a: {{ .Values.x }}\n", 5, "for Helm with helm template"),
    ("{{- if .x }}\na: 1\n", 5, "for Helm with helm template"),
    (
        "? [a]\n: b\n",
        5,
        "check the indentation, the quotes and the brackets",
    ),
];

#[test]
fn a_syntax_error_contains_line_column_cause_and_remedy() {
    for (text, line, part) in CASES {
        let error = found(text);
        assert_eq!(error.line, *line, "{text:?}: {error:?}");
        assert!(error.message.contains(part), "{text:?}: {error:?}");
        let place = error.message.starts_with("not valid YAML at column ");
        assert!(place, "{text:?}: {error:?}");
    }
}

#[test]
fn errors_contain_no_text_of_the_library() {
    let deep = "[".repeat(5000);
    let cases = CASES.iter().map(|(text, ..)| *text);
    for text in cases.chain([deep.as_str(), "%YAML 3.0\n", "a: ? x\n", "a: &x [*x]\n"]) {
        let error = serde_saphyr::from_str::<serde_json::Value>(text).expect_err("no YAML");
        let plain = error.without_snippet().to_string();
        let words = plain.split(" at line").next().unwrap_or(&plain);
        let message = yaml(text, 1, &error).message;
        assert!(!message.contains(words), "{words:?} is in {message:?}");
        for word in [
            "scalar", "mapping", "sequence", "flow", "Options", "policy", "token",
        ] {
            assert!(!message.contains(word), "{message:?}");
        }
    }
}

/// Invalid parts of BGPPeers and Secrets.
const WITH_A_PASSWORD: &[&str] = &[
    "kind: BGPPeer\nspec:\n  password: hunter2: x\n",
    "kind: BGPPeer\nspec:\n  password: \"hunter2\n",
    "kind: BGPPeer\nspec:\n  password: 'hunter2' hunter2\n",
    "kind: BGPPeer\nspec:\n  password: hunter2\t: hunter2\n",
    "kind: BGPPeer\nspec: {password: hunter2: x}\n",
    "kind: BGPPeer\nspec: {password: \"hunter2}\n",
    "{\"kind\": \"BGPPeer\", \"spec\": {\"password\": \"hunter2\" \"a\": 1}}\n",
    "{\"kind\": \"Secret\", \"stringData\": {\"password\": \"hunter2}}\n",
    "{\"kind\": \"Secret\", \"data\": {\"password\": \"\\hunter2\"}}\n",
    "kind: Secret\nstringData:\n  password: hunter2: x\n",
    "kind: Secret\nstringData:\n  password: |\n    a\n  hunter2\n",
    "kind: Secret\nstringData:\n  password: |\n    a\n  hunter2: hunter2: x\n",
    "kind: Secret\nstringData:\n  password: |hunter2\n",
    "kind: Secret\nstringData:\n  password: !hunter2!hunter2 x\n",
    "kind: Secret\nstringData:\n  password: *hunter2\n",
    "kind: Secret\nstringData: {password: {hunter2: a, hunter2: b}}\n",
    "kind: Secret\ndata:\n  password:\n  - hunter2\n - hunter2\n",
    "kind: Secret\ndata:\n  password: a\n    hunter2: hunter2\n",
    "metadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: \
     {\"password\":\"hunter2\" x}\n",
];

#[test]
fn errors_contain_no_value_since_it_may_be_a_password() {
    for text in WITH_A_PASSWORD {
        let message = found(text).message;
        assert!(!message.contains("hunter2"), "{text:?}: {message}");
    }
    let message = found("password: @hunter2\n").message;
    assert!(!message.contains('@'), "not a single character: {message}");
}
