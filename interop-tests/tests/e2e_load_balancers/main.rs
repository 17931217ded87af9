//! The cases of Kubernetes' end-to-end suites "LoadBalancers" and "LoadBalancers
//! ExternalTrafficPolicy: Local" that need no particular provider, in the lab's words: a real API
//! server and kube-proxy, ferrolb, an FRR router and a client behind it. docs/kubernetes-e2e.md
//! lists them, and which cases are left out.
//!
//! A case is a function whose name states its rule. Cases with the same needs share a cluster,
//! since starting one takes longer than most cases.

mod affinity;
mod changes;
mod local;
mod requests;
mod rolling;
mod suite;
mod udp;

/// The cases with the names of their functions.
macro_rules! cases {
    ($($module:ident::$case:ident),+ $(,)?) => {
        &[$((stringify!($case), $module::$case as suite::Case)),+]
    };
}

#[test]
fn types_ports_and_sources_of_a_service_change() {
    suite::run(
        "e2e-changes",
        cases![
            changes::a_tcp_service_changes_its_type_and_ports,
            changes::a_udp_service_changes_its_type_and_ports,
            changes::a_service_without_node_ports_answers_and_gets_one_later,
            changes::only_the_source_ranges_of_a_service_reach_it,
            changes::a_deleted_service_leaves_nothing_and_its_address_is_free,
        ],
    );
}

#[test]
fn clients_stay_at_a_pod_and_datagrams_follow_pods() {
    suite::run(
        "e2e-affinity",
        cases![
            affinity::session_affinity_keeps_a_client_at_one_pod_with_policy_local,
            affinity::session_affinity_keeps_a_client_at_one_pod_with_policy_cluster,
            affinity::session_affinity_is_switched_with_policy_local,
            affinity::session_affinity_is_switched_with_policy_cluster,
            udp::datagrams_reach_the_next_pod_on_another_node,
            udp::datagrams_reach_the_next_pod_on_the_same_node,
        ],
    );
}

#[test]
fn policy_local_preserves_addresses_and_selects_nodes() {
    suite::run(
        "e2e-local",
        cases![
            local::pods_see_the_address_of_a_client_of_the_load_balancer,
            local::pods_see_the_address_of_a_client_of_the_node_port,
            local::only_the_node_with_the_pod_gets_requests_and_is_healthy,
            local::all_nodes_with_pods_get_requests_and_are_healthy,
            local::pods_and_nodes_reach_the_load_balancer_pods_with_their_own_address,
            local::a_service_changes_its_external_traffic_policy,
        ],
    );
}
