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
fn a_missing_crd_and_a_missing_permission_are_refusals() {
    let Trouble::Refused(refusal) = Trouble::of(Kind::BgpPeer, &refused(404)) else {
        panic!()
    };
    assert!(refusal.kind_is_gone);
    assert!(
        refusal.message.contains("bgppeers.metallb.io"),
        "{}",
        refusal.message
    );
    // API servers before Kubernetes 1.33 don't have it.
    assert!(matches!(
        Trouble::of(Kind::ServiceCidr, &refused(404)),
        Trouble::Refused(refusal) if refusal.kind_is_gone
    ));
    let Trouble::Refused(refusal) = Trouble::of(Kind::Secret, &refused(403)) else {
        panic!()
    };
    assert!(!refusal.kind_is_gone);
    assert!(
        refusal.message.contains("list and watch secrets"),
        "{}",
        refusal.message
    );
}

#[test]
fn an_api_server_in_trouble_has_refused_nothing() {
    for code in [401, 429, 500, 503, 504] {
        let trouble = Trouble::of(Kind::IpAddressPool, &refused(code));
        assert!(
            matches!(trouble, Trouble::Failing(_)),
            "{code}: {trouble:?}"
        );
    }
    // Services are always there: whoever says otherwise is no API server.
    assert!(matches!(
        Trouble::of(Kind::Service, &refused(404)),
        Trouble::Failing(_)
    ));
}

#[test]
fn a_watch_that_is_not_resumed_begins_anew_unless_the_server_is_overloaded() {
    for (code, anew) in [
        (404, true),
        (403, true),
        (410, true),
        (504, true),
        (429, false),
        (503, false),
    ] {
        assert_eq!(begins_anew(&not_resumed(code)), anew, "{code}");
    }
    assert!(
        !begins_anew(&refused(403)),
        "a failed list begins anew by itself"
    );
}

#[test]
fn selectors_leave_out_what_nobody_needs() {
    let services = Params::new(Kind::Service, Freshness::Cached);
    for selector in [
        services.list().field_selector,
        services.watch().field_selector,
    ] {
        assert_eq!(selector.as_deref(), Some("spec.type=LoadBalancer"));
    }
    assert_eq!(services.list().resource_version.as_deref(), Some("0"));
    let fresh = Params::new(Kind::Service, Freshness::Consistent).list();
    assert_eq!((fresh.resource_version, fresh.limit), (None, Some(PAGE)));
    let secrets = Params::new(Kind::Secret, Freshness::Cached).watch();
    assert_eq!(
        secrets.field_selector.as_deref(),
        Some("type=kubernetes.io/basic-auth")
    );
}

#[test]
fn who_does_not_answer_at_all_is_away() {
    let refused = || kube::Error::Service("connection refused".into());
    let trouble = Trouble::of(Kind::Node, &watcher::Error::WatchStartFailed(refused()));
    assert!(
        matches!(&trouble, Trouble::Unreachable(cause) if cause.contains("refused")),
        "{trouble:?}"
    );
    // A watch that is cut may be an API server that stops; asking again will tell.
    assert_eq!(
        Trouble::of(Kind::Node, &watcher::Error::WatchFailed(refused())),
        Trouble::Cut
    );
}
