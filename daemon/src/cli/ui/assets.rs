//! The files of the page. They are part of the program.

use axum::Router;
use axum::http::header;
use axum::routing::get;

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asset {
    /// Its path in the URL.
    pub path: &'static str,
    /// Its content type.
    pub kind: &'static str,
    /// Its text.
    pub text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($path:literal $kind:ident $file:literal;)+) => {
        [$(Asset { path: $path, kind: $kind, text: include_str!(concat!("page/", $file)) },)+]
    };
}

/// All files of the page.
pub(super) const ASSETS: [Asset; 14] = assets! {
    "/" HTML "page.html";
    "/icon.svg" SVG "icon.svg";
    "/page.css" CSS "page.css";
    "/picture.css" CSS "picture.css";
    "/main.js" SCRIPT "main.js";
    "/dom.js" SCRIPT "dom.js";
    "/model.js" SCRIPT "model.js";
    "/groups.js" SCRIPT "groups.js";
    "/flow.js" SCRIPT "flow.js";
    "/matrix.js" SCRIPT "matrix.js";
    "/details.js" SCRIPT "details.js";
    "/whatif.js" SCRIPT "whatif.js";
    "/summary.js" SCRIPT "summary.js";
    "/feed.js" SCRIPT "feed.js";
};

/// Serves the files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let answer = ([(header::CONTENT_TYPE, asset.kind)], asset.text);
        router.route(asset.path, get(move || async move { answer }))
    })
}
