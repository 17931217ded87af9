//! Services as claimants of an address: their seniority and the rules of sharing.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::request::AllocationRequest;
use crate::service::ServiceKey;

/// A service that claims addresses. Ordered by seniority, older services first. Two claimants are
/// equal if they are the same service, even if their claims (sharing key, backend, ports) differ.
#[derive(Debug, Clone)]
pub(crate) struct Claimant(Arc<AllocationRequest>);

impl Claimant {
    pub(crate) fn of(request: &Arc<AllocationRequest>) -> Self {
        Self(Arc::clone(request))
    }

    pub(crate) fn request(&self) -> &Arc<AllocationRequest> {
        &self.0
    }

    fn seniority(&self) -> (i64, &str, &ServiceKey) {
        (self.0.created, &self.0.uid, &self.0.service)
    }
}

impl PartialEq for Claimant {
    fn eq(&self, other: &Self) -> bool {
        self.seniority() == other.seniority()
    }
}

impl Eq for Claimant {}

impl PartialOrd for Claimant {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Claimant {
    fn cmp(&self, other: &Self) -> Ordering {
        self.seniority().cmp(&other.seniority())
    }
}

/// A key that entitles a service to join a shared address: the sharing key, and the backend key
/// that all services on the address have. Without a backend key it entitles services with
/// [`AllocationRequest::any_backend`].
pub(crate) type JoinKey = (String, Option<String>);

/// The keys with which a service can join an address.
pub(crate) fn join_keys(request: &AllocationRequest) -> impl Iterator<Item = JoinKey> {
    let sharing = &request.sharing_key;
    let same = Some((sharing.clone(), Some(request.backend_key.clone())));
    let any = request.any_backend.then(|| (sharing.clone(), None));
    let shares = !sharing.is_empty();
    same.into_iter().chain(any).filter(move |_| shares)
}

/// Whether two services claim an address with the same keys and ports.
pub(crate) fn same_claim(a: &AllocationRequest, b: &AllocationRequest) -> bool {
    a.sharing_key == b.sharing_key
        && a.backend_key == b.backend_key
        && a.any_backend == b.any_backend
        && a.ports == b.ports
}

pub(crate) fn same_sharing(a: &AllocationRequest, b: &AllocationRequest) -> bool {
    !a.sharing_key.is_empty() && a.sharing_key == b.sharing_key
}

pub(crate) fn same_backend(a: &AllocationRequest, b: &AllocationRequest) -> bool {
    a.backend_key == b.backend_key || (a.any_backend && b.any_backend)
}
