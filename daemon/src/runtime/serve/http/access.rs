//! Who may read the metrics over TLS: the API server decides, and its answers are remembered for a
//! minute.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use tokio::sync::Semaphore;

use crate::runtime::source::kube::{Reviewer, Verdict};

/// How long an answer is used.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Maximum number of remembered answers.
const MAX_REMEMBERED: usize = 128;
/// Maximum number of tokens that are being reviewed, so that a stranger can't flood the API server.
const MAX_REVIEWS: usize = 2;

/// The SHA-256 of a token. The token itself is not stored.
type TokenHash = [u8; SHA256_OUTPUT_LEN];

/// Answers of the API server, with the time of each.
#[derive(Debug, Default)]
struct Remembered(BTreeMap<TokenHash, (Instant, Verdict)>);

impl Remembered {
    fn get(&self, now: Instant, token: &TokenHash) -> Option<Verdict> {
        let (at, verdict) = self.0.get(token)?;
        (now.saturating_duration_since(*at) < REMEMBERED_FOR).then(|| verdict.clone())
    }

    /// Adds an answer, for which the oldest one is removed if there are too many.
    fn add(&mut self, now: Instant, token: TokenHash, verdict: Verdict) {
        self.0
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < REMEMBERED_FOR);
        if self.0.len() >= MAX_REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(oldest) = oldest.map(|(token, _)| *token) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(token, (now, verdict));
    }
}

/// The API server did not answer. The log has the cause.
struct NotReviewed;

/// Checks the requests for metrics.
#[derive(Debug)]
pub(crate) struct Access {
    reviewer: Reviewer,
    remembered: Mutex<Remembered>,
    reviews: Semaphore,
    /// Whether the last review got no answer, so that each outage is logged once.
    failing: AtomicBool,
}

impl Access {
    /// Nothing is remembered yet.
    pub(crate) fn new(reviewer: Reviewer) -> Self {
        Self {
            reviewer,
            remembered: Mutex::default(),
            reviews: Semaphore::new(MAX_REVIEWS),
            failing: AtomicBool::new(false),
        }
    }

    /// Whether a request with these headers may read the metrics.
    ///
    /// # Errors
    ///
    /// The answer to a request that may not.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), Response> {
        let verdict = match bearer_token(headers) {
            Some(token) => self.verdict(token).await.map_err(|NotReviewed| {
                let text = "the API server did not check the token: see the log of ferrolb\n";
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            })?,
            None => Verdict::Unauthenticated,
        };
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Unauthenticated => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                let text = "/metrics needs a bearer token of the cluster\n";
                Err((StatusCode::UNAUTHORIZED, challenge, text).into_response())
            }
            Verdict::Forbidden(user) => {
                let text = format!(
                    "{user} may not get /metrics: bind it to the ClusterRole \
                     ferrolb-metrics-reader\n"
                );
                Err((StatusCode::FORBIDDEN, text).into_response())
            }
        }
    }

    async fn verdict(&self, token: &str) -> Result<Verdict, NotReviewed> {
        let hash = hash(token);
        if let Some(verdict) = self.recall(&hash) {
            return Ok(verdict);
        }
        // The semaphore is never closed.
        let _turn = self.reviews.acquire().await.map_err(|_| NotReviewed)?;
        // Another request with this token may have been answered meanwhile.
        if let Some(verdict) = self.recall(&hash) {
            return Ok(verdict);
        }
        let reviewed = self.reviewer.review(token).await;
        let was_failing = self.failing.swap(reviewed.is_err(), Ordering::Relaxed);
        let verdict = reviewed.map_err(|error| {
            if !was_failing {
                tracing::warn!(
                    "can't ask the API server who may read the metrics, so scrapes get the \
                     status 503: {error}"
                );
            }
            NotReviewed
        })?;
        let mut remembered = self.lock();
        remembered.add(Instant::now(), hash, verdict.clone());
        Ok(verdict)
    }

    fn recall(&self, token: &TokenHash) -> Option<Verdict> {
        self.lock().get(Instant::now(), token)
    }

    /// A panic leaves the map valid.
    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(token: &str) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// The token of a header `Authorization: Bearer …` (RFC 6750 §2.1). The scheme's case is ignored
/// (RFC 9110 §11.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_remembered_for_a_minute() {
        let mut remembered = Remembered::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        remembered.add(at(0), hash("a"), Verdict::Allowed);
        assert_eq!(remembered.get(at(59), &hash("a")), Some(Verdict::Allowed));
        assert_eq!(remembered.get(at(59), &hash("b")), None);
        assert_eq!(remembered.get(at(60), &hash("a")), None);
        remembered.add(at(60), hash("b"), Verdict::Unauthenticated);
        assert_eq!(remembered.0.len(), 1);
    }

    #[test]
    fn the_oldest_answer_makes_room_for_a_new_one() {
        let mut remembered = Remembered::default();
        let now = Instant::now();
        for number in 0..300 {
            let at = now + Duration::from_millis(number);
            remembered.add(at, hash(&number.to_string()), Verdict::Unauthenticated);
        }
        assert_eq!(remembered.0.len(), MAX_REMEMBERED);
        let later = now + Duration::from_secs(1);
        assert!(remembered.get(later, &hash("299")).is_some());
        assert!(remembered.get(later, &hash("0")).is_none());
    }

    #[test]
    fn only_a_bearer_token_is_a_token() {
        let token = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            bearer_token(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(token("bearer  abc"), Some("abc".to_owned()));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("Bearer "), None);
        assert_eq!(token("Bearer"), None);
        assert_eq!(bearer_token(&HeaderMap::new()), None);
    }
}
