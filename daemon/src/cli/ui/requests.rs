//! What the page asks: the picture and its changes, explanations, and what an assumption would
//! change.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::Stream;
use futures::stream::unfold;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::assets;
use super::guard::WHAT_IF;
use super::live::{Live, Shown};
use crate::core::api::{ObjectKey, ObjectName, RawObject};
use crate::core::config::ConfigPlaces;
use crate::core::explain::Subject;
use crate::core::plan::what_if;
use crate::runtime::source::manifests::of_text;

/// Maximum size of an assumption, in octets: manifests that are pasted.
const ASSUMPTION_MAX: usize = 4 << 20;

/// The routes of the server.
pub(super) fn router(live: Arc<Live>) -> Router {
    Router::new()
        .route("/events", get(events))
        .route("/explain/{kind}/{*name}", get(explain))
        .route(
            WHAT_IF,
            post(assume).layer(DefaultBodyLimit::max(ASSUMPTION_MAX)),
        )
        .merge(assets::routes())
        .with_state(live)
}

/// The picture, and each later one.
async fn events(State(live): State<Arc<Live>>) -> impl IntoResponse {
    Sse::new(pictures(&live)).keep_alive(KeepAlive::default())
}

fn pictures(live: &Arc<Live>) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let state = (live.open(), live.shown());
    unfold(state, |(open, mut shown)| async move {
        loop {
            // Ends with the server.
            shown.changed().await.ok()?;
            let now = shown.borrow_and_update().clone();
            let event = match now {
                Shown::Nothing => continue,
                Shown::Picture(text) => Event::default().event("picture").data(text),
                Shown::Trouble(text) => Event::default().event("trouble").data(text),
            };
            return Some((Ok(event), (open, shown)));
        }
    })
}

async fn explain(
    State(live): State<Arc<Live>>,
    Path((kind, name)): Path<(String, String)>,
) -> Response {
    let Some(subject) = subject(&kind, &name) else {
        let message = "expected service/NAMESPACE/NAME, address/ADDRESS, node/NAME, peer/NAME or \
                       pool/NAME";
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    match live.ask(move |scene| scene.explain(&subject)).await {
        Ok(Ok(explanation)) => json(&explanation),
        Ok(Err(message)) => refuse(StatusCode::NOT_FOUND, &message),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn subject(kind: &str, name: &str) -> Option<Subject> {
    Some(match kind {
        "service" => {
            let (namespace, name) = name.split_once('/')?;
            Subject::Service(ObjectName::new(namespace, name))
        }
        "address" => Subject::Address(name.parse().ok()?),
        "node" => Subject::Node(name.to_owned()),
        "peer" => Subject::Peer(name.to_owned()),
        "pool" => Subject::Pool(name.to_owned()),
        _ => return None,
    })
}

/// What is assumed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assumption {
    #[serde(default)]
    events: Vec<AssumedEvent>,
    /// YAML or JSON that would be applied.
    #[serde(default)]
    manifests: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum AssumedEvent {
    Drain(String),
    LoseNode(String),
    LosePeer(String),
}

impl From<AssumedEvent> for what_if::Event {
    fn from(event: AssumedEvent) -> Self {
        match event {
            AssumedEvent::Drain(node) => Self::Drain(node),
            AssumedEvent::LoseNode(node) => Self::LoseNode(node),
            AssumedEvent::LosePeer(peer) => Self::LosePeer(peer),
        }
    }
}

async fn assume(State(live): State<Arc<Live>>, body: Bytes) -> Response {
    let Ok(assumption) = serde_json::from_slice::<Assumption>(&body) else {
        let message = "expected {\"events\": [{\"drain\": NODE}, {\"loseNode\": NODE}, \
                       {\"losePeer\": PEER}], \"manifests\": YAML}";
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    let objects = match objects(&assumption.manifests, live.config()) {
        Ok(objects) => objects,
        Err(message) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, &message),
    };
    let events = assumption.events.into_iter().map(what_if::Event::from);
    let events: Vec<what_if::Event> = events.collect();
    let assumable = match live.ask(|scene| scene.assumable()).await {
        Ok(assumable) => assumable,
        Err(error) => return refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    let coloured = spawn_blocking(move || {
        assumable.if_changed(|after| {
            after.apply(objects);
            events.iter().try_for_each(|event| after.assume(event))
        })
    });
    match coloured.await {
        Ok(Ok(colours)) => json(&colours),
        Ok(Err(message)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &message),
        Err(_) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the plan failed, a bug of ferrolb",
        ),
    }
}

/// The objects of a text that is pasted.
fn objects(text: &str, config: &ConfigPlaces) -> Result<Vec<(ObjectKey, RawObject)>, String> {
    let manifests = of_text("line", text, config);
    if !manifests.errors.is_empty() {
        let errors = manifests.errors.iter().map(ToString::to_string);
        return Err(errors.collect::<Vec<_>>().join("\n"));
    }
    if manifests.objects.is_empty() && !text.trim().is_empty() {
        return Err("the text has no object that ferrolb reads".to_owned());
    }
    let objects = manifests.objects.into_iter();
    Ok(objects.map(|(key, located)| (key, located.raw)).collect())
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => with_type(StatusCode::OK, text),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let text = serde_json::json!({ "message": message });
    with_type(status, text.to_string())
}

fn with_type(status: StatusCode, text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, text).into_response()
}
