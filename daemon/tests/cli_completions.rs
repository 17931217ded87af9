//! `ferrolb completions` and `ferrolb man`.

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use program::{ferrolb, folder_of, stdout};

/// The commands that `ferrolb --help` lists.
fn commands() -> Vec<String> {
    let help = stdout(&ferrolb(&["--help"]));
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_once(' '))
        .map(|(name, _)| name.to_owned());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 10, "{help}");
    names
}

#[test]
fn bash_can_read_its_completion_script_which_has_all_commands() {
    let script = stdout(&ferrolb(&["completions", "bash"]));
    let folder = folder_of("ferrolb", &script);
    let file = folder.path().join("ferrolb");
    let parsed = Command::new("bash").arg("-n").arg(&file).status();
    assert!(parsed.expect("bash").success());
    // What bash offers after `ferrolb `.
    let completed = Command::new("bash")
        .arg("-c")
        .arg(
            "source \"$0\"; COMP_WORDS=(ferrolb ''); COMP_CWORD=1; _ferrolb ferrolb '' ferrolb; \
             echo \"${COMPREPLY[@]}\"",
        )
        .arg(&file)
        .output()
        .expect("bash");
    let offered = stdout(&completed);
    let offered: BTreeSet<&str> = offered.split_whitespace().collect();
    for command in commands() {
        assert!(offered.contains(command.as_str()), "{command}: {offered:?}");
    }
}

/// What bash offers for these words, with the manifests in the folder as the cluster.
fn offered_by_bash(words: &[&str]) -> Vec<String> {
    let script = stdout(&ferrolb(&["completions", "bash"]));
    let folder = folder_of("ferrolb", &script);
    let program = env!("CARGO_BIN_EXE_ferrolb");
    let completed = Command::new("bash")
        .arg("-c")
        .arg(
            "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
             _ferrolb \"$1\" \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
             printf '%s\\n' \"${COMPREPLY[@]}\"",
        )
        .arg(folder.path().join("ferrolb"))
        .arg(program)
        .args(words)
        .output()
        .expect("bash");
    stdout(&completed).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_names_of_objects() {
    let objects = format!("{}/tests/status/objects.yaml", env!("CARGO_MANIFEST_DIR"));
    let offered = |words: &[&str]| {
        let (last, before) = words.split_last().expect("words");
        offered_by_bash(&[before, &["-f", &objects, "-o", "json", last]].concat())
    };
    assert_eq!(offered(&["explain", "svc", "shop/w"]), ["shop/web"]);
    assert_eq!(offered(&["explain", "node", ""]), ["node-a", "node-b"]);
    assert_eq!(offered(&["explain", "peer", "t"]), ["tor"]);
    assert_eq!(offered(&["explain", "pool", ""]), ["lan", "public"]);
    // Where no name fits, the generated script answers.
    assert!(offered_by_bash(&["explain", ""]).contains(&"pool".to_owned()));
}

#[test]
fn zsh_and_fish_ask_for_names() {
    for shell in ["zsh", "fish"] {
        let script = stdout(&ferrolb(&["completions", shell]));
        assert!(script.contains("complete-names"), "{script}");
    }
}

#[test]
fn zsh_and_fish_have_scripts_with_all_commands() {
    for (shell, marker) in [("zsh", "#compdef ferrolb"), ("fish", "complete -c ferrolb")] {
        let script = stdout(&ferrolb(&["completions", shell]));
        assert!(script.contains(marker), "{script}");
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let man = folder.path().join("share/man1");
    let output = ferrolb(&["man", man.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0));
    let page = |name: &str| fs::read_to_string(man.join(name)).expect("a page");
    assert!(page("ferrolb.1").contains(".TH ferrolb 1"));
    for command in commands().iter().filter(|command| *command != "help") {
        let text = page(&format!("ferrolb-{command}.1"));
        assert!(text.contains(".SH SYNOPSIS"), "{text}");
    }
    // Commands of a command too.
    assert!(page("ferrolb-l2-move.1").contains("ADDRESS"));
    assert!(page("ferrolb-run.1").contains("metrics\\-tls"));
}

#[test]
fn man_names_a_folder_that_can_not_be_created() {
    let folder = folder_of("file", "");
    let inside = folder.path().join("file/man1");
    let output = ferrolb(&["man", inside.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("file/man1"), "{error}");
}
