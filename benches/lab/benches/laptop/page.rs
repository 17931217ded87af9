//! Measures the page of `ferrolb ui` in a real browser.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use ferrolb_interop_tests::browser::Browser;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{Process, ferrolb};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::{cpu_time, memory};
use ferrolb_lab_bench::statistics::{median, milliseconds, percentile, rounded};
use serde_json::{Value, json};

use super::api_client::ApiClient;
use super::objects::{Size, slice};

/// How often the page is opened, each time by a new process of ferrolb.
const OPENED: usize = 3;
/// How many changes are made. An even number, so that the last one undoes the first.
const CHANGES: usize = 20;
/// Pause before a change, so that it is the only one.
const PAUSE: Duration = Duration::from_millis(700);
const TIMEOUT: Duration = Duration::from_secs(120);

/// Notes when the picture is on the screen: after the frame that follows the page's mark.
const SCRIPT: &str = "new MutationObserver((_, observer) => { \
    if (document.body?.dataset.ready !== 'true') return; observer.disconnect(); \
    requestAnimationFrame(() => setTimeout(() => { window.shownAt = performance.now(); })); \
    }).observe(document, { subtree: true, childList: true, attributes: true });";

/// The times of the page, and the octets of its files.
const TIMES: &str = "(() => { \
    const paint = performance.getEntriesByName('first-contentful-paint')[0].startTime; \
    const files = [...performance.getEntriesByType('navigation'), \
    ...performance.getEntriesByType('resource').filter((r) => !r.name.endsWith('/events'))]; \
    const octets = files.reduce((sum, file) => sum + file.transferSize, 0); \
    return { paint, shown: window.shownAt, octets, files: files.length }; })()";

/// The octets of the picture, in UTF-8.
const PICTURE: &str = "new Promise((done) => { const source = new EventSource('events'); \
    source.addEventListener('picture', (event) => { source.close(); \
    done(new TextEncoder().encode(event.data).length); }); })";

/// Prepares a promise of the time at which a text of the summary has changed on the screen.
const AWAIT_CHANGE: &str = "(() => { const summary = document.getElementById('summary'); \
    const before = summary.querySelector('b').textContent; \
    window.changed = new Promise((done) => new MutationObserver((_, observer) => { \
    if (summary.querySelector('b').textContent === before) return; observer.disconnect(); \
    requestAnimationFrame(() => setTimeout(() => \
    done(performance.timeOrigin + performance.now()))); \
    }).observe(summary, { subtree: true, childList: true, characterData: true })); \
    return true; })()";

/// A host with a kubeconfig that may watch.
pub(crate) struct Viewer<'lab> {
    pub(crate) scratch: &'lab Scratch,
    pub(crate) host: &'lab Namespace,
    pub(crate) kubeconfig: PathBuf,
}

/// What one opening of the page took.
struct Opening {
    paint: f64,
    shown: f64,
    octets: u64,
    files: u64,
}

impl Viewer<'_> {
    /// Measures opening the page, and changes.
    pub(crate) fn measure(&self, size: Size, api: &ApiClient) -> Result<()> {
        let browser = Scratch::within(self.scratch, &format!("browser-{}", size.nodes))?;
        let mut browser = Browser::start(&browser, self.host.command("sh"))?;
        browser.run_in_each_page(SCRIPT)?;
        let mut first = Vec::new();
        let mut again = Vec::new();
        let mut server = None;
        for run in 0..OPENED {
            let (process, url) = self.serve(size, run)?;
            first.push(opened(&mut browser, &url)?);
            again.push(opened(&mut browser, &url)?);
            server = Some(process);
        }
        let server = server.context("never opened")?;
        let picture = browser.evaluate(PICTURE)?;
        for (what, openings) in [("first", first), ("again", again)] {
            print_openings(size, what, &openings, &picture);
        }
        changes(&mut browser, &server, size, api)
    }

    /// Starts ferrolb. Returns its address.
    fn serve(&self, size: Size, run: usize) -> Result<(Process, String)> {
        let mut command = self.host.command(ferrolb()?);
        command.args(["ui", "--port", "0"]);
        command.env("KUBECONFIG", &self.kubeconfig);
        let name = format!("ui-{}-{run}", size.nodes);
        let process = Process::start(self.scratch, &name, &command)?;
        process.await_log(&["http://127.0.0.1:"], TIMEOUT)?;
        let log = process.log_text()?;
        let mut words = log.split_whitespace();
        let url = words.find(|word| word.starts_with("http://127.0.0.1:"));
        Ok((process, url.context("no address in the log")?.to_owned()))
    }
}

fn opened(browser: &mut Browser, url: &str) -> Result<Opening> {
    browser.open("about:blank")?;
    browser.open(url)?;
    eventually("the picture", TIMEOUT, || {
        browser.check("window.shownAt > 0")
    })?;
    let times = browser.evaluate(TIMES)?;
    Ok(Opening {
        paint: times["paint"].as_f64().context("no paint")?,
        shown: times["shown"].as_f64().context("no picture")?,
        octets: times["octets"].as_u64().context("no octets")?,
        files: times["files"].as_u64().context("no files")?,
    })
}

fn print_openings(size: Size, what: &str, openings: &[Opening], picture: &Value) {
    measurement::print(
        "laptop_page",
        &[
            ("nodes", json!(size.nodes)),
            ("services", json!(size.services)),
            ("opened", json!(what)),
            (
                "first_paint_ms",
                json!(median(openings.iter().map(|one| one.paint)).round()),
            ),
            (
                "picture_ms",
                json!(median(openings.iter().map(|one| one.shown)).round()),
            ),
            ("files", json!(openings[0].files)),
            ("octets_of_files", json!(openings[0].octets)),
            ("octets_of_picture", picture.clone()),
        ],
    );
}

/// Endpoints of a Service become unready and ready again, so that it is withheld and announced.
fn changes(browser: &mut Browser, server: &Process, size: Size, api: &ApiClient) -> Result<()> {
    let cpu_before = cpu_time(server.pid())?;
    let mut from_request = Vec::new();
    let mut from_answer = Vec::new();
    for change in 0..CHANGES {
        sleep(PAUSE);
        browser.evaluate(AWAIT_CHANGE)?;
        let patch = slice(2, size.nodes, change % 2 == 1);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let begun = Instant::now();
        api.change(&patch)?;
        let answered = milliseconds(begun.elapsed());
        let seen = browser.evaluate("window.changed")?;
        let seen = seen.as_f64().context("no time")? - wall.as_secs_f64() * 1e3;
        from_request.push(seen);
        from_answer.push(seen - answered);
    }
    let spent = cpu_time(server.pid())?.saturating_sub(cpu_before);
    let memory = memory(server.pid())?;
    for times in [&mut from_request, &mut from_answer] {
        times.sort_by(f64::total_cmp);
    }
    let changes = u32::try_from(CHANGES)?;
    measurement::print(
        "laptop_page_update",
        &[
            ("nodes", json!(size.nodes)),
            ("services", json!(size.services)),
            ("changes", json!(CHANGES)),
            (
                "request_to_screen_p50_ms",
                json!(percentile(&from_request, 50)),
            ),
            (
                "request_to_screen_max_ms",
                json!(percentile(&from_request, 100)),
            ),
            (
                "answer_to_screen_p50_ms",
                json!(percentile(&from_answer, 50)),
            ),
            (
                "cpu_ms_per_change",
                json!(rounded(spent.as_secs_f64() * 1e3 / f64::from(changes))),
            ),
            ("vm_rss_kib", json!(memory.now)),
            ("vm_hwm_kib", json!(memory.peak)),
        ],
    );
    Ok(())
}
