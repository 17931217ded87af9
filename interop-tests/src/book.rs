//! Pages of the documentation, whose commands a test runs as they stand there.
//!
//! Commands are in blocks marked `sh`, or `sh exit=3` if their exit code is 3 and not 0. A block
//! marked `text` is the output of the commands before it: each of its lines must be printed, in
//! this order. `…` stands for any text within a line, and on a line of its own for any lines; other
//! lines may be printed between. Blank space is compared as one space.
//!
//! A block marked `sh until Ctrl-C` has a command that the reader ends: it is interrupted once it
//! has printed its output.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::eventually::eventually;
use crate::kube::ControlPlane;
use crate::process::run;

/// What stands for any text.
const ANY: &str = "…";

/// The mark of a block with a command that the reader ends.
const INTERRUPTED: &str = "sh until Ctrl-C";

/// How long such a command may take to print its output, and to end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// The line of the page on which they begin.
    pub line: usize,
    /// What a shell runs.
    pub text: String,
    /// What they print, as the page shows it.
    pub output: Option<String>,
    /// The exit code.
    pub exit_code: i32,
    /// Whether the last one runs until Ctrl-C.
    pub interrupted: bool,
    /// The heading above them.
    heading: String,
}

/// A page of the documentation. A test takes its commands, in the order of the page, and runs them.
#[derive(Debug)]
pub struct Page {
    path: String,
    remaining: Vec<Commands>,
}

impl Page {
    /// Reads a page; `path` is relative to the root of the repository.
    ///
    /// # Errors
    /// When it can't be read, or a block has no end.
    pub fn read(path: &str) -> Result<Self> {
        let text = fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
        Ok(Self {
            path: path.to_owned(),
            remaining: commands(&text).with_context(|| path.to_owned())?,
        })
    }

    /// Runs the commands below this heading, without those below the next one.
    ///
    /// # Errors
    /// When there are none, when others stand before them, or when one fails or prints something
    /// else.
    pub fn run(&mut self, heading: &str, shell: &Shell<'_>) -> Result<()> {
        let count = self
            .remaining
            .iter()
            .take_while(|commands| commands.heading == heading)
            .count();
        let Self { path, remaining } = self;
        if count == 0 {
            let next = remaining.first().map(|next| &next.heading);
            bail!("{path}: \"{heading}\" has no commands, or not here; the next are of {next:?}");
        }
        for commands in remaining.drain(..count) {
            let place = format!("{path}:{}", commands.line);
            shell.run(&commands).context(place)?;
        }
        Ok(())
    }

    /// Runs the rest of the page.
    ///
    /// # Errors
    /// When a command fails or prints something else.
    pub fn run_rest(mut self, shell: &Shell<'_>) -> Result<()> {
        while let Some(next) = self.remaining.first() {
            let heading = next.heading.clone();
            self.run(&heading, shell)?;
        }
        Ok(())
    }

    /// Ends the test of a page.
    ///
    /// # Errors
    /// When commands have not been run.
    pub fn finish(self) -> Result<()> {
        let lines: Vec<usize> = self.remaining.iter().map(|next| next.line).collect();
        ensure!(lines.is_empty(), "{}: not run: lines {lines:?}", self.path);
        Ok(())
    }
}

/// Where the commands of a page run: bash, started by a function that selects the namespace.
pub struct Shell<'lab> {
    bash: Box<dyn Fn() -> Command + 'lab>,
    programs: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl<'lab> Shell<'lab> {
    /// A shell with its working directory `folder`. `bash` starts bash where the page runs, as
    /// [`ControlPlane::command`](crate::kube::ControlPlane::command) does.
    ///
    /// # Errors
    /// When the folders can't be created.
    pub fn new(folder: &Path, bash: impl Fn() -> Command + 'lab) -> Result<Self> {
        let programs = folder.join("bin");
        fs::create_dir_all(&programs).with_context(|| programs.display().to_string())?;
        Ok(Self {
            bash: Box::new(bash),
            programs,
            folder: folder.to_owned(),
            environment: Vec::new(),
        })
    }

    /// Makes the shell one of an administrator of the cluster, with kubectl and a kubeconfig. In
    /// `home` is kubectl's cache, whose key is the API server's address: the same in all tests.
    ///
    /// # Errors
    /// When the link to kubectl can't be created.
    pub fn administrator(self, cp: &ControlPlane<'_>, home: &Path) -> Result<Self> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let shell = self.program("kubectl", cp.kubectl_program())?;
        Ok(shell
            .variable("KUBECONFIG", &text(&cp.admin_kubeconfig()))
            .variable("HOME", &text(home)))
    }

    /// Makes a program available under the name that the page uses.
    ///
    /// # Errors
    /// When the link can't be created.
    pub fn program(self, name: &str, path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| path.display().to_string())?;
        std::os::unix::fs::symlink(path, self.programs.join(name)).context(name.to_owned())?;
        Ok(self)
    }

    /// Makes a script available as a program, for one that must run elsewhere.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn script(self, name: &str, text: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.programs.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).context(name.to_owned())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(self)
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs commands, compares what they print, and returns it.
    ///
    /// # Errors
    /// When one fails, or a line is missing.
    pub fn run(&self, commands: &Commands) -> Result<String> {
        if commands.interrupted {
            return self.run_until_printed(commands);
        }
        let output = self.bash(commands).output().context("bash")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.code() == Some(commands.exit_code),
            "{}, expected {}:\n{}\n{printed}",
            output.status,
            commands.exit_code,
            commands.text
        );
        if let Some(expected) = &commands.output {
            expect(expected, &printed)
                .with_context(|| format!("{}\nprinted:\n{printed}", commands.text))?;
        }
        Ok(printed)
    }

    /// Bash with these commands, in the folder.
    fn bash(&self, commands: &Commands) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut bash = (self.bash)();
        bash.args([
            "-c",
            "exec 2>&1; set -euo pipefail; cd \"$1\"; eval \"$2\"",
            "bash",
        ])
        .arg(&self.folder)
        .arg(&commands.text)
        .env("PATH", format!("{}:{path}", self.programs.display()))
        .envs(self.environment.iter().map(|(name, value)| (name, value)));
        bash
    }

    /// Waits until the commands have printed their output, and interrupts them.
    fn run_until_printed(&self, commands: &Commands) -> Result<String> {
        let expected = commands.output.as_deref();
        let expected = expected.context("a command until Ctrl-C needs the output to wait for")?;
        let file = self.programs.join("printed");
        let mut bash = self.bash(commands);
        bash.stdin(Stdio::null()).stdout(File::create(&file)?);
        // A group of its own gets the interrupt, as the foreground of a terminal does.
        let mut bash = bash.process_group(0).spawn().context("bash")?;
        let printed = || {
            let octets = fs::read(&file)?;
            anyhow::Ok(String::from_utf8_lossy(&octets).into_owned())
        };
        let shown = eventually("the output", TIMEOUT, || {
            if let Some(status) = bash.try_wait()? {
                return Ok(Err(anyhow!("ended ({status}):\n{}", printed()?)));
            }
            let printed = printed()?;
            expect(expected, &printed).with_context(|| format!("printed:\n{printed}"))?;
            anyhow::Ok(Ok(printed))
        });
        let ended = interrupt(&mut bash);
        let shown = shown.flatten().with_context(|| commands.text.clone())?;
        ended.with_context(|| format!("Ctrl-C: {}", commands.text))?;
        Ok(shown)
    }
}

/// Sends SIGINT to a group of processes and waits until the first one has ended.
fn interrupt(leader: &mut Child) -> Result<()> {
    let pid = leader.id();
    let group = format!("-{pid}");
    let signal = |name: &str| {
        let kill = ["-c", "kill -s \"$1\" -- \"$2\"", "sh", name, &group];
        run(Command::new("sh").args(kill)).map(drop)
    };
    let sent = signal("INT");
    let ended = eventually("its end", TIMEOUT, || {
        let status = leader.try_wait()?;
        ensure!(status.is_some(), "{pid} still runs");
        Ok(())
    });
    // It fails if all of them have ended.
    let _ = signal("KILL");
    sent.and(ended)
}

impl std::fmt::Debug for Shell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// The pages that have commands, with paths from the root of the repository.
///
/// # Errors
/// When a folder or page can't be read.
pub fn pages_with_commands() -> Result<Vec<String>> {
    let mut pages = Vec::new();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let shown = path.strip_prefix(root())?.display().to_string();
                if !commands(&fs::read_to_string(&path)?)?.is_empty() {
                    pages.push(shown);
                }
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The commands of a page. A block belongs to the list item in which it stands.
fn commands(text: &str) -> Result<Vec<Commands>> {
    let mut found: Vec<Commands> = Vec::new();
    let mut heading = String::new();
    let mut output_belongs = false;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let trimmed = line.trim_start();
        let Some(language) = trimmed.strip_prefix("```") else {
            if let Some(title) = line.trim_start_matches('#').strip_prefix(' ')
                && line.starts_with('#')
            {
                title.clone_into(&mut heading);
                output_belongs = false;
            }
            continue;
        };
        let indent = line.len() - trimmed.len();
        let mut block = String::new();
        loop {
            let (_, line) = lines
                .next()
                .with_context(|| format!("line {}: no end", index + 1))?;
            if line.trim() == "```" {
                break;
            }
            block.push_str(line.get(indent..).unwrap_or_default());
            block.push('\n');
        }
        let (language, exit_code) = match language.trim().split_once(" exit=") {
            Some((language, code)) => (language, code.parse().context("exit=")?),
            None => (language.trim(), 0),
        };
        let interrupted = language == INTERRUPTED;
        match (language, found.last_mut()) {
            ("sh" | INTERRUPTED, _) => found.push(Commands {
                line: index + 1,
                text: block,
                output: None,
                exit_code,
                interrupted,
                heading: heading.clone(),
            }),
            ("text", Some(commands)) if output_belongs => commands.output = Some(block),
            _ => {}
        }
        output_belongs = language == "sh" || interrupted;
    }
    Ok(found)
}

/// Checks that each expected line is printed, in this order.
fn expect(expected: &str, printed: &str) -> Result<()> {
    let mut printed = printed.lines().map(words);
    for line in expected.lines().map(words) {
        if line.is_empty() || line == ANY {
            continue;
        }
        ensure!(
            printed.any(|one| matches(&line, &one)),
            "not printed, or not after the lines before it: {line}"
        );
    }
    Ok(())
}

/// The line with one space between words.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is the pattern, in which [`ANY`] stands for any text.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split(ANY);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Title\n\n```sh\none\n```\n\nIt prints:\n\n```text\n1\n```\n\n\
        ## Next\n\n* item\n\n  ```sh\n  two\n    deeper\n  ```\n\n```yaml\na: b\n```\n\n\
        ```text\nnot its output\n```\n";

    #[test]
    fn commands_have_their_heading_and_the_output_that_follows() {
        let found = commands(PAGE).expect("a page");
        let shown: Vec<_> = found
            .iter()
            .map(|one| (one.line, &*one.heading, &*one.text, one.output.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                (3, "Title", "one\n", Some("1\n")),
                (17, "Next", "two\n  deeper\n", None)
            ]
        );
        assert!(commands("```sh\nwithout an end").is_err());
        let failing = commands("```sh exit=3\none\n```\n").expect("a page");
        assert_eq!(failing[0].exit_code, 3);
        assert!(commands("```sh exit=x\none\n```\n").is_err());
    }

    #[test]
    fn a_block_can_have_a_command_that_the_reader_ends() -> Result<()> {
        let found = commands("```sh until Ctrl-C\nwatch\n```\n\n```text\n1\n```\n")?;
        assert_eq!(found.len(), 1);
        assert!(found[0].interrupted && found[0].output.as_deref() == Some("1\n"));
        Ok(())
    }

    #[test]
    fn a_line_matches_with_any_text_for_the_ellipsis() {
        for (pattern, line, expected) in [
            ("a b", "a b", true),
            ("a b", "a b c", false),
            ("a … c", "a x y c", true),
            ("a … c", "a x y d", false),
            ("… b", "a b", true),
            ("a…", "abc", true),
            ("a…b…c", "a-b-c", true),
            ("a…b…c", "a-c", false),
        ] {
            assert_eq!(matches(pattern, line), expected, "{pattern} {line}");
        }
    }

    #[test]
    fn printed_lines_are_expected_in_order() {
        assert!(expect("a  b\n…\nc", "a b\nmore\n c\n").is_ok());
        assert!(expect("c\na b", "a b\nc\n").is_err());
        assert!(expect("a\na", "a\n").is_err());
    }

    #[test]
    fn a_shell_runs_commands_in_its_folder_and_compares() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("ferrolb-book-{}", std::process::id()));
        let shell = Shell::new(&folder, || Command::new("bash"))?
            .script("greet", "echo hello, $WHOM")?
            .variable("WHOM", "reader");
        let commands = |text: &str, output: &str| Commands {
            line: 1,
            text: text.to_owned(),
            output: Some(output.to_owned()),
            exit_code: 0,
            interrupted: false,
            heading: String::new(),
        };
        let run_to = |exit_code: i32, text: &str, output: &str| {
            shell.run(&Commands {
                exit_code,
                ..commands(text, output)
            })
        };
        let interrupt = |text: &str, output: &str| {
            shell.run(&Commands {
                interrupted: true,
                ..commands(text, output)
            })
        };
        let run = |text: &str, output: &str| run_to(0, text, output);
        let works = run("greet > file\ncat file", "hello, …");
        let wrong_output = run("greet", "good bye");
        let fails = run("false\necho after", "after");
        let expected_to_fail = run_to(3, "greet\nexit 3", "hello, reader");
        let does_not_fail = run_to(3, "greet", "hello, reader");
        let interrupted = interrupt("greet; sleep 600", "hello, reader");
        let ends_early = interrupt("greet", "good bye");
        fs::remove_dir_all(&folder)?;
        works?;
        interrupted?;
        assert!(ends_early.is_err());
        expected_to_fail?;
        assert!(does_not_fail.is_err());
        assert!(wrong_output.is_err() && fails.is_err());
        Ok(())
    }
}
