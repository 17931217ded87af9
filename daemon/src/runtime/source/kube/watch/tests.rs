use kube::core::Status;

use super::*;

fn refused(code: u16) -> watcher::Error {
    let status = Status {
        code,
        message: "no".into(),
        reason: "Why".into(),
        ..Status::default()
    };
    watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
}

fn not_resumed(code: u16) -> watcher::Error {
    let watcher::Error::InitialListFailed(error) = refused(code) else {
        unreachable!()
    };
    watcher::Error::WatchStartFailed(error)
}

#[test]
fn a_missing_crd_and_a_missing_permission_are_rejections() {
    let Failure::Rejected(error) = Failure::of(Kind::BgpPeer, &refused(404)) else {
        panic!()
    };
    assert!(error.kind_missing);
    for part in [
        "apply MetalLB's CRDs, or use ferrolb's",
        "bgppeers.metallb.io",
    ] {
        assert!(error.message.contains(part), "{}", error.message);
    }
    // API servers before Kubernetes 1.33 don't have it.
    assert!(matches!(
        Failure::of(Kind::ServiceCidr, &refused(404)),
        Failure::Rejected(error) if error.kind_missing
    ));
    let Failure::Rejected(error) = Failure::of(Kind::Secret, &refused(403)) else {
        panic!()
    };
    assert!(!error.kind_missing);
    assert!(
        error.message.contains("list and watch secrets"),
        "{}",
        error.message
    );
}

#[test]
fn server_errors_are_not_rejections() {
    for code in [401, 429, 500, 503, 504] {
        let trouble = Failure::of(Kind::IpAddressPool, &refused(code));
        assert!(
            matches!(trouble, Failure::ServerError(_)),
            "{code}: {trouble:?}"
        );
    }
    // Every API server has Services: one that answers otherwise is not an API server.
    assert!(matches!(
        Failure::of(Kind::Service, &refused(404)),
        Failure::ServerError(_)
    ));
}

#[test]
fn a_watch_that_can_not_be_resumed_relists_unless_the_server_is_overloaded() {
    for (code, relists) in [
        (404, true),
        (403, true),
        (410, true),
        (504, true),
        (429, false),
        (503, false),
    ] {
        assert_eq!(needs_relist(&not_resumed(code)), relists, "{code}");
    }
    assert!(
        !needs_relist(&refused(403)),
        "a failed list is retried anyway"
    );
}

#[test]
fn selectors_exclude_unneeded_objects() {
    let params = |kind, freshness| Params::new(kind, freshness, &"metallb".into());
    let services = params(Kind::Service, Freshness::Cached);
    for selector in [
        services.list().field_selector,
        services.watch().field_selector,
    ] {
        assert_eq!(selector.as_deref(), Some("spec.type=LoadBalancer"));
    }
    assert_eq!(services.list().resource_version.as_deref(), Some("0"));
    let fresh = params(Kind::Service, Freshness::Consistent).list();
    assert_eq!(
        (fresh.resource_version, fresh.limit),
        (None, Some(PAGE_SIZE))
    );
    let secrets = params(Kind::Secret, Freshness::Cached).watch();
    assert_eq!(
        secrets.field_selector.as_deref(),
        Some("type=kubernetes.io/basic-auth")
    );
    let config_maps = params(Kind::ConfigMap, Freshness::Cached);
    for selector in [
        config_maps.list().field_selector,
        config_maps.watch().field_selector,
    ] {
        assert_eq!(selector.as_deref(), Some("metadata.name=metallb"));
    }
}

#[test]
fn a_request_without_an_answer_is_unreachable() {
    let refused = || kube::Error::Service("connection refused".into());
    let trouble = Failure::of(Kind::Node, &watcher::Error::WatchStartFailed(refused()));
    assert!(
        matches!(&trouble, Failure::Unreachable(cause) if cause.contains("refused")),
        "{trouble:?}"
    );
    // The API server may be stopping: the next request shows it.
    assert_eq!(
        Failure::of(Kind::Node, &watcher::Error::WatchFailed(refused())),
        Failure::Interrupted
    );
}
