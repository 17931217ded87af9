//! Reads an MRT file and says what is in it: `mrt updates.20160811.1600.gz`, or `-` for standard
//! input. A file in gzip is given to `gzip -dc`.

mod attributes;
mod reader;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{fs, io};

use clap::Parser;
use ferrolb_bgp::wire::{DecodeContext, Message, Update};
use reader::{Content, Records};

/// Decodes an MRT file: counts of records, messages and prefixes, and what is wrong with them.
#[derive(Parser)]
struct Arguments {
    /// The file, `-` for standard input.
    file: PathBuf,
}

/// What was found, by name, with how often.
#[derive(Default)]
struct Report(BTreeMap<String, u64>);

impl Report {
    fn count(&mut self, what: impl Into<String>, count: usize) {
        *self.0.entry(what.into()).or_default() += u64::try_from(count).unwrap_or(u64::MAX);
    }

    fn update(&mut self, update: &Update) {
        self.count("prefixes announced", update.announced().count());
        self.count("prefixes withdrawn", update.withdrawn_prefixes().count());
        for error in &update.errors {
            self.count(format!("error: {error}"), 1);
        }
    }

    fn message(&mut self, octets: &[u8], context: &DecodeContext) {
        match Message::decode(octets, context) {
            Some(Ok(message)) => {
                self.count(format!("message {}", message.kind()), 1);
                match &message {
                    Message::Update(update) => self.update(update),
                    Message::Notification(notification) => {
                        self.count(format!("notification: {notification}"), 1);
                    }
                    _ => {}
                }
            }
            Some(Err(error)) => self.count(format!("refused: {error}"), 1),
            None => self.count("refused: record and message differ in length", 1),
        }
    }
}

fn read(arguments: &Arguments) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    if arguments.file.as_os_str() == "-" {
        io::stdin().read_to_end(&mut file)?;
    } else {
        file = fs::read(&arguments.file)?;
    }
    if !file.starts_with(&[0x1f, 0x8b]) {
        return Ok(file);
    }
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdin = gzip.stdin.take();
    // It stops reading when nobody takes what it writes.
    let feeder =
        std::thread::spawn(move || stdin.map(|mut pipe| io::Write::write_all(&mut pipe, &file)));
    let output = gzip.wait_with_output()?;
    let fed = feeder.join();
    match output.status.success() && matches!(fed, Ok(Some(Ok(())))) {
        true => Ok(output.stdout),
        false => Err(io::Error::other("gzip could not unpack the file")),
    }
}

fn main() -> io::Result<()> {
    let file = read(&Arguments::parse())?;
    let mut report = Report::default();
    for record in Records::new(&file) {
        let record = record.map_err(io::Error::other)?;
        match record.content {
            Content::Message(recorded) => report.message(recorded.octets, &recorded.context),
            Content::StateChange { .. } => report.count("state changes", 1),
            Content::Rib(rib) => {
                report.count(format!("{} prefixes in the table", rib.family), 1);
                for entry in &rib.entries {
                    match rib.update(entry) {
                        Some(octets) => report.message(&octets, &rib.context(entry)),
                        None => report.count("paths without a next hop", 1),
                    }
                }
            }
            Content::Other { kind, subtype } => {
                report.count(format!("record of type {kind}, subtype {subtype}"), 1);
            }
        }
    }
    for (what, count) in report.0 {
        println!("{count:>9}  {what}");
    }
    Ok(())
}
