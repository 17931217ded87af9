//! The forms in which a password could be printed, and grep for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::scenario::Scratch;

/// Shorter parts of a password occur by chance, for example in the base64 of something else.
const PART_MIN: usize = 8;

/// What is looked for: what it is, by its text.
pub(crate) struct Needles {
    meanings: BTreeMap<String, (&'static str, &'static str)>,
    file: PathBuf,
}

/// A file that contains a password.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The name of the password.
    pub password: &'static str,
    /// Its form.
    pub form: &'static str,
}

impl Needles {
    /// The forms of these passwords, by name. Of each, the parts without special characters are
    /// looked for: escapes in JSON, YAML, HTML, URLs and a shell leave them as they are.
    ///
    /// # Errors
    /// A password has no part that is long enough, or the list can't be written.
    pub(crate) fn new(scratch: &Scratch, passwords: &[(&'static str, Vec<u8>)]) -> Result<Self> {
        let mut meanings = BTreeMap::new();
        for (name, password) in passwords {
            let parts = password.split(|octet| !octet.is_ascii_alphanumeric());
            let parts: Vec<&[u8]> = parts.filter(|part| part.len() >= PART_MIN).collect();
            ensure!(!parts.is_empty(), "{name} has no part that can be found");
            for (form, text) in parts.into_iter().flat_map(forms) {
                meanings.insert(text, (*name, form));
            }
        }
        let file = scratch.file("needles.txt");
        let texts: Vec<&str> = meanings.keys().map(String::as_str).collect();
        fs::write(&file, texts.join("\n"))?;
        Ok(Self { meanings, file })
    }

    /// The passwords in files and folders.
    ///
    /// # Errors
    /// A path can't be read.
    pub(crate) fn search(&self, paths: &[&Path]) -> Result<BTreeSet<Finding>> {
        for path in paths {
            ensure!(path.exists(), "nothing at {}", path.display());
        }
        let mut grep = Command::new("grep");
        grep.env("LC_ALL", "C").args(["-raoFH", "--null", "-f"]);
        let output = grep.arg(&self.file).args(paths).output()?;
        // 1: nothing was found.
        let searched = matches!(output.status.code(), Some(0 | 1));
        ensure!(searched && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout)?;
        text.lines()
            .map(|line| {
                let (file, found) = line.split_once('\0').context("no file")?;
                let (password, form) = *self.meanings.get(found).context("another text")?;
                Ok(Finding {
                    file: file.into(),
                    password,
                    form,
                })
            })
            .collect()
    }
}

/// The forms of a part of a password, with their names.
fn forms(part: &[u8]) -> Vec<(&'static str, String)> {
    let joined = |separator: &str, shown: fn(&u8) -> String| {
        let shown: Vec<String> = part.iter().map(shown).collect();
        shown.join(separator)
    };
    let mut forms = vec![
        ("clear", String::from_utf8_lossy(part).into_owned()),
        ("hex", joined("", |octet| format!("{octet:02x}"))),
        ("hex", joined("", |octet| format!("{octet:02X}"))),
        ("hex", joined(" ", |octet| format!("{octet:02x}"))),
        ("hex", joined(":", |octet| format!("{octet:02x}"))),
        ("escapes", joined("", |octet| format!("\\x{octet:02x}"))),
        ("URL", joined("", |octet| format!("%{octet:02x}"))),
        ("URL", joined("", |octet| format!("%{octet:02X}"))),
        ("numbers", joined(",", ToString::to_string)),
        ("numbers", joined(", ", ToString::to_string)),
    ];
    forms.extend((0..3).map(|before| ("base64", base64_within(part, before))));
    forms
}

/// The characters that every base64 of a text has, if the part begins in it after a multiple of
/// three octets and `before` more.
fn base64_within(part: &[u8], before: usize) -> String {
    let padded = [&vec![0; before][..], part].concat();
    let all = base64(&padded);
    // Six bits a character: those that depend on what is before or after the part are left out.
    let first = (before * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    all.chars().skip(first).take(end - first).collect()
}

/// Base64 without padding (RFC 4648 §4). Of letters and digits it has neither `+` nor `/`, so that
/// it is the same for URLs.
pub(crate) fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (place, octet)| {
            bits | u32::from(*octet) << (16 - 8 * place)
        });
        for place in 0..=group.len() {
            let index = bits >> (18 - 6 * place) & 0x3f;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// Base64 with padding, as in a Secret's `data`.
pub(crate) fn padded_base64(octets: &[u8]) -> String {
    let mut text = base64(octets);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

#[test]
fn every_form_of_a_password_is_found_and_nothing_else() {
    let scratch = Scratch::new("needles").expect("a folder");
    let password = b"leopardseal\n\"penguins".to_vec();
    let needles = Needles::new(&scratch, &[("one", password.clone())]).expect("needles");
    let folder = scratch.file("texts");
    fs::create_dir(&folder).expect("a folder");
    let mut hex = String::new();
    for octet in &password {
        _ = write!(hex, "{octet:02X}");
    }
    let text = String::from_utf8(password.clone()).expect("text");
    let json = serde_json::to_string(&text).expect("JSON");
    let within = |before: &str| {
        let all = [before.as_bytes(), &password, b" and more"].concat();
        format!("x{}", padded_base64(&all))
    };
    let texts = [
        ("clear", text.clone()),
        ("clear", json),
        ("clear", format!("{text:?}")),
        ("base64", within("")),
        ("base64", within("a")),
        ("base64", within("ab")),
        ("hex", hex),
        ("numbers", format!("{password:?}")),
    ];
    for (form, text) in texts {
        let file = folder.join("text");
        fs::write(&file, &text).expect("written");
        let found = needles.search(&[&folder]).expect("searched");
        let finding = |found: &Finding| found.form == form && found.password == "one";
        assert!(found.iter().any(finding), "{form} {text}: {found:?}");
    }
    fs::write(folder.join("text"), "leopards and a penguin, TGVvcGFyZA==").expect("written");
    assert_eq!(needles.search(&[&folder]).expect("searched"), [].into());
    assert_eq!(base64(b"foobar"), "Zm9vYmFy");
    assert_eq!(padded_base64(b"foob"), "Zm9vYg==");
}
