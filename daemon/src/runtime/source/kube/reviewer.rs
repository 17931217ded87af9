//! Asks the API server who a token belongs to, and whether that user may read the metrics.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::client::{self, StartError};
use super::watch::chain;

/// Limit for both requests together.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// What the API server says about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The user may read the metrics.
    Allowed,
    /// The token is no valid one.
    Unauthenticated,
    /// This user may not read the metrics.
    Forbidden(String),
}

/// A client for reviews.
#[derive(Clone)]
pub(crate) struct Reviewer(Client);

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reviewer").finish_non_exhaustive()
    }
}

impl Reviewer {
    /// Creates the client. It sends its requests from the runtime that this runs on.
    ///
    /// # Errors
    ///
    /// The client's configuration is invalid.
    pub(crate) async fn connect(kubeconfig: Option<&Path>) -> Result<Self, StartError> {
        client::connect(kubeconfig).await.map(Self::new)
    }

    /// A reviewer with this client.
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// Asks the API server about a token.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in plain words.
    pub(crate) async fn review(&self, token: &str) -> Result<Verdict, String> {
        match tokio::time::timeout(REVIEW_TIMEOUT, self.ask(token)).await {
            Ok(Ok(verdict)) => Ok(verdict),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(format!(
                "{}. Apply deploy/monitoring/metrics-tls.yaml",
                status.message
            )),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn ask(&self, token: &str) -> kube::Result<Verdict> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviews = Api::<TokenReview>::all(self.0.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await?;
        let status = reviewed.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(Verdict::Unauthenticated);
        }
        let user = status.user.unwrap_or_default();
        let name = user.username.clone().unwrap_or_default();
        let review = access_review(user);
        let reviews = Api::<SubjectAccessReview>::all(self.0.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await?;
        if reviewed.status.is_some_and(|status| status.allowed) {
            Ok(Verdict::Allowed)
        } else {
            Ok(Verdict::Forbidden(name))
        }
    }
}

/// Whether this user may get the URL /metrics.
fn access_review(user: UserInfo) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            extra: user.extra,
            groups: user.groups,
            uid: user.uid,
            user: user.username,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some("/metrics".to_owned()),
                verb: Some("get".to_owned()),
            }),
            resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    }
}
