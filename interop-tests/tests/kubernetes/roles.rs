//! The RBAC rights of ferrolb's roles, and its behaviour without them.

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ANNOUNCER_USER, Rack, manifests};
use ferrolb_interop_tests::manifest::{NAMESPACE, service};
use ferrolb_interop_tests::router::Router;

use super::{
    CLUSTER, DENIAL_CONFIRMED, FULL_CONFIGURATION, TIMEOUT, await_metric, await_metric_for,
    await_prefix, secret,
};

/// The statements of install.md on Secrets: a Role with `resourceNames` does not permit a list;
/// a separate namespace for the configuration limits the right.
pub(super) fn the_configuration_moves_to_a_namespace_with_its_secrets(
    rack: &mut Rack<'_>,
) -> Result<()> {
    const NEW: &str = "peering";
    let user = format!("--as={ANNOUNCER_USER}");
    let list = |namespace: &str| {
        let fields = "--field-selector=type=kubernetes.io/basic-auth";
        rack.cp
            .kubectl(&["get", "secrets", "-n", namespace, fields, &user])
    };
    let role = "--role=by-name";
    let subject = format!("--serviceaccount={NAMESPACE}:ferrolb-announcer");
    for arguments in [
        &["create", "namespace", NEW][..],
        &[
            "create",
            "role",
            "by-name",
            "-n",
            "default",
            "--verb=list,watch",
            "--resource=secrets",
            "--resource-name=tor-password",
        ],
        &[
            "create",
            "rolebinding",
            "by-name",
            "-n",
            "default",
            role,
            &subject,
        ],
    ] {
        rack.cp.kubectl(arguments)?;
    }
    let shipped = std::fs::read_to_string(manifests().join("2-rbac.yaml"))?;
    let moves = |text: &&str| {
        text.contains("kind: Role") && (text.contains("-config\n") || text.contains("-lease\n"))
    };
    let moved: Vec<&str> = shipped.split("---\n").filter(moves).collect();
    ensure!(moved.len() == 8, "{moved:?}");
    let from = format!("\n  namespace: {NAMESPACE}\n");
    let roles = moved.join("---\n");
    rack.cp
        .apply(&roles.replace(&from, &format!("\n  namespace: {NEW}\n")))?;
    let role = "ferrolb-announcer-config";
    rack.cp
        .kubectl(&["delete", "rolebinding", role, "-n", NAMESPACE])?;
    rack.cp.apply(&FULL_CONFIGURATION.replace(NAMESPACE, NEW))?;
    rack.cp.apply(&secret(NEW))?;
    eventually("the roles are in effect", TIMEOUT, || {
        ensure!(list(NAMESPACE).is_err() && list("default").is_err());
        list(NEW)
    })?;

    rack.allocators[0].process().terminate(TIMEOUT)?;
    rack.announcers[0].process().kill()?;
    for process in [&mut rack.allocators[0], &mut rack.announcers[0]] {
        process.add_argument(&format!("--config-namespace={NEW}"));
        process.start_again()?;
        process.await_ready()?;
    }
    rack.cp.apply(&service("moved", "", CLUSTER))?;
    let address = rack.await_addresses("moved")?[0];
    await_prefix(rack, &format!("{address}/32"), &[0, 1])?;
    let metrics = rack.announcers[0].get("/metrics")?;
    ensure!(
        !metrics.contains("ferrolb_object_refused_bool{"),
        "{metrics}"
    );
    Ok(())
}

/// Applies the roles of an older release, without Nodes for the allocator and without ServiceCIDRs.
pub(super) fn missing_rights_are_reported_and_services_still_work(
    rack: &mut Rack<'_>,
) -> Result<()> {
    const NODES: &str = r#"ferrolb_object_refused_bool{kind="Node",name="*",namespace=""}"#;
    const CIDRS: &str = r#"ferrolb_object_refused_bool{kind="ServiceCIDR",name="*",namespace=""}"#;
    let services = "{apiGroups: [''], resources: [services, namespaces], verbs: [list, watch]}";
    let status = "{apiGroups: [''], resources: [services/status], verbs: [patch]}";
    let nodes = "{apiGroups: [''], resources: [nodes], verbs: [list, watch]}";
    let slices =
        "{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}";
    for (role, rules) in [
        ("allocator", [services, status].join(", ")),
        ("announcer", [services, nodes, slices].join(", ")),
    ] {
        rack.cp.apply(&format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, \
             metadata: {{name: ferrolb-{role}}}, rules: [{rules}]}}"
        ))?;
    }
    // The API server checks rights only when a watch starts.
    rack.allocators[0].process().terminate(TIMEOUT)?;
    rack.announcers[0].process().kill()?;
    for process in [&mut rack.allocators[0], &mut rack.announcers[0]] {
        process.start_again()?;
    }
    let (allocator, announcer) = (&rack.allocators[0], &rack.announcers[0]);
    for (process, series, resource) in [
        (allocator, NODES, "nodes"),
        (allocator, CIDRS, "servicecidrs"),
        (announcer, CIDRS, "servicecidrs"),
    ] {
        await_metric_for(DENIAL_CONFIRMED, process, series, Some(1.0))?;
        let denied = format!("cannot list resource \\\"{resource}\\\"");
        process.await_log(&[&denied, "2-rbac.yaml"], TIMEOUT)?;
    }
    rack.cp.apply(&service("denied", "", CLUSTER))?;
    let address = rack.await_addresses("denied")?[0];
    let prefix = format!("{address}/32").parse()?;
    eventually("routes of both nodes", TIMEOUT, || {
        let mut table = rack.router.table()?;
        table.retain(|route| route.prefix == prefix);
        ensure!(
            table == rack.routes(&prefix.to_string(), &[0, 1])?,
            "{table:?}"
        );
        Ok(())
    })?;
    rack.cp.install_ferrolb_rbac()?;
    await_metric(allocator, NODES, None)?;
    await_metric(allocator, CIDRS, None)?;
    await_metric(announcer, CIDRS, None)
}

/// The first half of the pool is a ServiceCIDR.
pub(super) fn a_service_cidr_is_never_allocated(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(
        "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [203.0.113.0/29]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: overlaps, namespace: metallb-system}
spec: {addresses: [203.0.113.0/28]}
",
    )?;
    let allocator = &rack.allocators[0];
    allocator.await_log(&["IPAddressPool", "overlaps", "203.0.113.0"], TIMEOUT)?;
    let from = |name: &str, wanted: &str| {
        let metadata = format!("annotations: {{metallb.io/{wanted}}},");
        rack.cp.apply(&service(name, &metadata, CLUSTER))
    };
    from("in-range", "loadBalancerIPs: 203.0.113.3")?;
    from("of-the-rest", "address-pool: overlaps")?;
    rack.await_address("of-the-rest", "203.0.113.8")?;
    allocator.await_log(&["default/in-range", "203.0.113.3"], TIMEOUT)?;
    let addresses = rack.cp.service_addresses("default", "in-range")?;
    ensure!(addresses.is_empty(), "{addresses:?}");
    Ok(())
}
