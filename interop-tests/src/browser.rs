//! A headless Chromium with one page, driven through the DevTools protocol over two pipes.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::{Process, run};
use crate::scenario::Scratch;

/// Limit for an answer of the browser.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The quality of a screenshot in WebP, in percent.
const QUALITY: u8 = 85;
/// Octet between messages on the pipes.
const SEPARATOR: u8 = 0;

/// Chromium as root on a machine without a display. It looks up no name and updates nothing, so
/// that it reaches this host only.
const ARGUMENTS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-sync",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-domain-reliability",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--font-render-hinting=none",
    "--remote-debugging-pipe",
];

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    process: Process,
    /// Not in the scratch folder, which prints the logs in it.
    profile: PathBuf,
    commands: File,
    messages: Receiver<Value>,
    session: String,
    sent: u64,
    complaints: Vec<String>,
    requests: Vec<String>,
}

impl Browser {
    /// Starts Chromium by a command that runs `sh`, perhaps in a namespace. It ends when the result
    /// is dropped.
    ///
    /// # Errors
    /// Chromium is not installed, or does not answer.
    pub fn start(scratch: &Scratch, mut shell: Command) -> Result<Self> {
        let [input, output] = ["browser.in", "browser.out"].map(|name| scratch.file(name));
        run(Command::new("mkfifo").args([&input, &output]))?;
        // The protocol is on the descriptors 3 and 4.
        shell.args([
            "-c",
            "in=$1 out=$2; shift 2; exec chromium \"$@\" 3<\"$in\" 4>\"$out\"",
            "sh",
        ]);
        shell.args([&input, &output]).args(ARGUMENTS);
        let unique = scratch.path().file_name().unwrap_or_default().display();
        let profile = std::env::temp_dir().join(format!("ferrolb-browser-{unique}"));
        shell.arg(format!("--user-data-dir={}", profile.display()));
        shell.arg("about:blank");
        let process = Process::start(scratch, "chromium", &shell)?;
        // Each blocks until the shell has opened the other end, in this order.
        let commands = OpenOptions::new().write(true).open(&input)?;
        let answers = File::open(&output)?;
        let mut browser = Self {
            process,
            profile,
            commands,
            messages: receive(answers),
            session: String::new(),
            sent: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
        };
        browser
            .attach()
            .context("is the Debian package chromium installed?")?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let targets = self.call("Target.getTargets", json!({}))?;
        let targets = targets["targetInfos"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let page = targets.iter().find(|target| target["type"] == "page");
        let page = page.context("the browser has no page")?;
        let to_page = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", to_page)?;
        self.session = attached["sessionId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}))?;
        }
        self.resize(1400, 900)
    }

    /// Sends a command, and waits for its result.
    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut text = serde_json::to_vec(&message)?;
        text.push(SEPARATOR);
        self.commands
            .write_all(&text)
            .context("the browser has ended")?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.messages.recv_timeout(left);
            let answer = answer.with_context(|| format!("{method}: no answer"))?;
            if answer["id"] == self.sent {
                let error = &answer["error"]["message"];
                ensure!(error.is_null(), "{method}: {error}");
                return Ok(answer["result"].clone());
            }
            self.note(&answer);
        }
    }

    /// Keeps what the page complains about, and what it requests.
    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                let details = &params["exceptionDetails"];
                self.complaints.push(format!("exception: {details}"));
            }
            "Runtime.consoleAPICalled" if params["type"] == "error" => {
                self.complaints.push(format!("console: {}", params["args"]));
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                self.complaints.push(format!("log: {}", params["entry"]));
            }
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str();
                self.requests.extend(url.map(str::to_owned));
            }
            _ => {}
        }
    }

    fn take_events(&mut self) -> Result<()> {
        loop {
            match self.messages.recv_timeout(Duration::ZERO) {
                Ok(event) => self.note(&event),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("the browser has ended"),
            }
        }
    }

    /// Runs a script in each page that is opened from now on, before the page's own.
    ///
    /// # Errors
    /// The browser refuses.
    pub fn run_in_each_page(&mut self, script: &str) -> Result<()> {
        let source = json!({ "source": script });
        self.call("Page.addScriptToEvaluateOnNewDocument", source)?;
        Ok(())
    }

    /// Opens an address.
    ///
    /// # Errors
    /// There is no page.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", json!({ "url": url }))?;
        let error = &opened["errorText"];
        ensure!(error.is_null(), "{url}: {error}");
        Ok(())
    }

    /// The value of an expression in JavaScript.
    ///
    /// # Errors
    /// The expression throws an exception.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params)?;
        let exception = &answer["exceptionDetails"];
        ensure!(exception.is_null(), "{expression}: {exception}");
        Ok(answer["result"]["value"].clone())
    }

    /// The text of an expression in JavaScript.
    ///
    /// # Errors
    /// The expression throws an exception, or has no text.
    pub fn text(&mut self, expression: &str) -> Result<String> {
        let value = self.evaluate(expression)?;
        let text = value.as_str().map(str::to_owned);
        text.with_context(|| format!("{expression}: {value} is no text"))
    }

    /// Checks that an expression in JavaScript is true.
    ///
    /// # Errors
    /// It is not: what it is.
    pub fn check(&mut self, expression: &str) -> Result<()> {
        let value = self.evaluate(expression)?;
        ensure!(value == json!(true), "{expression}: {value}");
        Ok(())
    }

    /// Clicks with the pointer on the middle of the first element that a selector matches.
    ///
    /// # Errors
    /// There is none in view.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        let selector = json!(selector);
        let place = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({selector}); if (!e) return null; \
             e.scrollIntoView({{ block: 'center' }}); const r = e.getBoundingClientRect(); \
             return [r.left + r.width / 2, r.top + r.height / 2]; }})()"
        ))?;
        ensure!(place.is_array(), "no element {selector}");
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let params = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", params)?;
        }
        Ok(())
    }

    /// Presses a key, such as `Enter` or `/`.
    ///
    /// # Errors
    /// The browser refuses.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let text = if key.chars().count() == 1 { key } else { "" };
        let text = if key == "Enter" { "\r" } else { text };
        let down = if text.is_empty() {
            "rawKeyDown"
        } else {
            "keyDown"
        };
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": down, "key": key, "text": text }),
        )?;
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key }),
        )?;
        Ok(())
    }

    /// Types a text into what has the focus.
    ///
    /// # Errors
    /// The browser refuses.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({ "text": text }))?;
        Ok(())
    }

    /// Sets the size of the page.
    ///
    /// # Errors
    /// The browser refuses.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        Ok(())
    }

    /// Sets the colours that the user prefers, `light` or `dark`.
    ///
    /// # Errors
    /// The browser refuses.
    pub fn prefer(&mut self, scheme: &str) -> Result<()> {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        )?;
        Ok(())
    }

    /// Writes what is in view to a PNG or WebP file.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        let format = file.extension().unwrap_or_default().display().to_string();
        let params = json!({ "format": format, "quality": QUALITY });
        let shot = self.call("Page.captureScreenshot", params)?;
        decode(shot["data"].as_str().unwrap_or_default(), file)
    }

    /// Writes the page as a PDF, as a printer gets it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn print(&mut self, file: &Path) -> Result<()> {
        let params = json!({ "printBackground": true, "landscape": true });
        let pdf = self.call("Page.printToPDF", params)?;
        decode(pdf["data"].as_str().unwrap_or_default(), file)
    }

    /// Errors on the console, exceptions, and what the browser blocked.
    ///
    /// # Errors
    /// The browser has ended.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        self.take_events()?;
        Ok(self.complaints.clone())
    }

    /// The addresses that the page requested.
    ///
    /// # Errors
    /// The browser has ended.
    pub fn requests(&mut self) -> Result<Vec<String>> {
        self.take_events()?;
        Ok(self.requests.clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // What fails here leaves files in the folder for temporary ones.
        _ = self.process.kill();
        _ = fs::remove_dir_all(&self.profile);
    }
}

/// Reads messages on a thread that ends with the browser.
fn receive(answers: File) -> Receiver<Value> {
    let (send, messages) = channel();
    thread::spawn(move || {
        let messages = BufReader::new(answers).split(SEPARATOR);
        for message in messages.map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice(&message) else {
                continue;
            };
            if send.send(message).is_err() {
                return;
            }
        }
    });
    messages
}

/// Writes octets in Base64 to a file.
fn decode(text: &str, file: &Path) -> Result<()> {
    let output = File::create(file).with_context(|| format!("create {}", file.display()))?;
    let mut base64 = Command::new("base64");
    base64.arg("--decode").stdin(Stdio::piped()).stdout(output);
    let mut decoder = base64.spawn().context("start base64")?;
    let mut input = decoder.stdin.take().context("base64 has no input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    ensure!(decoder.wait()?.success(), "base64 failed");
    Ok(())
}
