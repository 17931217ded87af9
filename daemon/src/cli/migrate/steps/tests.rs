use serde_json::json;

use super::super::facts::{Controller, Speaker};
use super::super::placement::Place;
use super::super::sessions::{PlannedPeer, PlannedPeers};
use super::*;

fn daemonset(name: &str, role: &str, pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["containers"] = json!([{"args": ["run", format!("--role={role}")]}]);
    json!({"metadata": {"name": name}, "spec": {"template": {"spec": pod}}})
}

fn install() -> Install {
    Install {
        objects: 20,
        images: BTreeSet::from(["ferrolb:dev".to_owned()]),
        daemonsets: vec![daemonset("announcer", "announcer", &json!({}))],
        bgp_sessions: true,
        ..Install::default()
    }
}

/// A node with a taint.
fn tainted(name: &str, key: &str) -> Node {
    let taint = json!({"key": key, "effect": "NoSchedule"});
    let object = json!({"metadata": {"name": name}, "spec": {"taints": [taint]}});
    Node {
        place: Place::of(&object, "label"),
        ..node(name)
    }
}

fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        ready: true,
        speaker: true,
        images: BTreeSet::from(["ferrolb:dev".to_owned()]),
        ..Node::default()
    }
}

/// MetalLB 0.14 on two nodes.
fn facts() -> Facts {
    Facts {
        controllers: vec![Controller {
            name: "controller".to_owned(),
            replicas: 1,
            ..Controller::default()
        }],
        speakers: vec![Speaker {
            name: "metallb-system/speaker".to_owned(),
            ..Speaker::default()
        }],
        webhooks: vec![json!({"metadata": {"name": "webhooks"}})],
        conversions: [("bgppeers.metallb.io".to_owned(), json!({}))].into(),
        nodes: vec![node("a"), node("b")],
        ..Facts::default()
    }
}

/// The cluster after the first steps of a migration.
fn begun() -> Facts {
    let mut facts = facts();
    facts.record = Some(facts.to_record());
    facts.speakers[0].bound = true;
    facts.webhooks.clear();
    facts.conversions.clear();
    facts.controllers[0].replicas = 0;
    for node in &mut facts.nodes {
        node.mark = Some(METALLB.to_owned());
    }
    facts
}

fn frr_k8s() -> FrrK8s {
    FrrK8s {
        daemonsets: vec!["frr-k8s-system/daemon".to_owned()],
        deployments: vec!["frr-k8s-system/webhook".to_owned()],
        webhooks: vec!["frr-k8s-webhooks".to_owned()],
        ..FrrK8s::default()
    }
}

/// MetalLB on two nodes, whose sessions belong to frr-k8s.
fn facts_with_frr_k8s() -> Facts {
    let mut facts = facts();
    facts.speakers.push(Speaker {
        name: "frr-k8s-system/daemon".to_owned(),
        ..Speaker::default()
    });
    facts.frr_k8s = Some(frr_k8s());
    facts
}

fn marked(facts: &mut Facts, node: usize, mark: Option<&str>) {
    facts.nodes[node].mark = mark.map(str::to_owned);
    facts.nodes[node].speaker = mark == Some(METALLB);
}

fn to(facts: &Facts, goal: Goal) -> Vec<Step> {
    steps(facts, &install(), goal).expect("no obstacle")
}

fn move_node(name: &str) -> Step {
    Step::MoveNode(name.to_owned())
}

#[test]
fn the_controller_ends_before_ferrolb_starts_and_nodes_move_one_by_one() {
    let expected = [
        Step::Record,
        Step::MarkNodes(vec!["a".to_owned(), "b".to_owned()]),
        Step::BindSpeaker("metallb-system/speaker".to_owned()),
        Step::StopConversion("bgppeers.metallb.io".to_owned()),
        Step::DeleteWebhook("webhooks".to_owned()),
        Step::StopController("controller".to_owned()),
        Step::Apply(20),
        Step::AwaitAllocator,
        move_node("a"),
        move_node("b"),
    ];
    assert_eq!(to(&facts(), Goal::Ferrolb), expected);
}

#[test]
fn a_migration_continues_with_the_node_at_which_it_was_interrupted() {
    let mut facts = begun();
    facts.nodes.push(node("c"));
    marked(&mut facts, 0, None);
    marked(&mut facts, 2, Some(MOVING));
    let expected = [
        Step::Apply(20),
        Step::AwaitAllocator,
        move_node("c"),
        Step::AwaitNode("a".to_owned()),
        move_node("b"),
    ];
    assert_eq!(to(&facts, Goal::Ferrolb), expected);
}

#[test]
fn a_node_where_ferrolb_does_not_work_yet_is_awaited_also_if_it_was_the_last_one() {
    let mut facts = begun();
    for node in [0, 1] {
        marked(&mut facts, node, None);
    }
    facts.nodes[1].ready = false;
    // It never had MetalLB's speaker.
    facts.nodes.push(Node {
        speaker: false,
        ..node("new")
    });
    let expected = [
        Step::Apply(20),
        Step::AwaitAllocator,
        Step::AwaitNode("a".to_owned()),
    ];
    assert_eq!(to(&facts, Goal::Ferrolb), expected);
}

#[test]
fn a_node_that_joins_during_a_migration_belongs_to_ferrolb() {
    let mut facts = begun();
    facts.nodes.push(Node {
        speaker: false,
        ..node("new")
    });
    let steps = to(&facts, Goal::Ferrolb);
    assert!(!steps.contains(&move_node("new")), "{steps:?}");
    assert!(
        !steps.iter().any(|step| matches!(step, Step::MarkNodes(_))),
        "{steps:?}"
    );
}

#[test]
fn images_are_pulled_before_anything_changes() {
    let mut facts = facts();
    facts.nodes[1].images.clear();
    let pull = Step::PullImage {
        node: "b".to_owned(),
        image: "ferrolb:dev".to_owned(),
    };
    assert_eq!(to(&facts, Goal::Ferrolb)[..2], [Step::Record, pull]);
}

#[test]
fn a_node_that_is_not_ready_keeps_its_label_and_is_left_out() {
    let mut facts = begun();
    facts.nodes[0].ready = false;
    let steps = to(&facts, Goal::Ferrolb);
    assert_eq!(
        steps,
        [Step::Apply(20), Step::AwaitAllocator, move_node("b")]
    );
}

#[test]
fn only_nodes_that_are_still_to_be_moved_can_be_left_out() {
    let mut facts = begun();
    for node in &mut facts.nodes {
        node.ready = false;
    }
    marked(&mut facts, 0, None);
    assert_eq!(left_out(&facts, Goal::Ferrolb), ["b"]);
    assert_eq!(left_out(&facts, Goal::Finish), [""; 0]);
    let mut facts = self::facts();
    facts.nodes[1].ready = false;
    assert_eq!(left_out(&facts, Goal::Ferrolb), ["b"]);
}

#[test]
fn undo_keeps_what_a_later_run_needs_while_a_node_is_not_ready() {
    let mut facts = begun();
    facts.record = Some(self::facts().to_record());
    for node in [0, 1] {
        marked(&mut facts, node, None);
    }
    facts.nodes[1].ready = false;
    assert_eq!(left_out(&facts, Goal::Metallb), ["b"]);
    let expected = [
        Step::ReturnNode {
            node: "a".to_owned(),
            speaker: true,
        },
        Step::StopAllocator,
        Step::StartController("controller".to_owned()),
        Step::RestoreConversion("bgppeers.metallb.io".to_owned()),
        Step::RestoreWebhooks,
    ];
    assert_eq!(to(&facts, Goal::Metallb), expected);

    // The same command again, when it is Ready.
    facts.nodes[1].ready = true;
    marked(&mut facts, 0, Some(METALLB));
    let steps = to(&facts, Goal::Metallb);
    let returned = Step::ReturnNode {
        node: "b".to_owned(),
        speaker: true,
    };
    assert_eq!(steps[0], returned);
    assert_eq!(steps.last(), Some(&Step::DeleteRecord));
}

#[test]
fn undo_does_not_wait_for_a_dead_node_that_neither_program_ran_on() {
    let mut facts = begun();
    facts.nodes.push(Node {
        speaker: false,
        ready: false,
        ..node("dead")
    });
    assert_eq!(left_out(&facts, Goal::Metallb), [""; 0]);
    facts.nodes[2].ferrolb = true;
    assert_eq!(left_out(&facts, Goal::Metallb), ["dead"]);
}

#[test]
fn a_node_where_no_daemonset_of_ferrolb_can_run_is_an_obstacle() {
    let mut facts = facts();
    facts.nodes.push(tainted("m1", "master"));
    facts.nodes.push(tainted("m2", "master"));
    // Without a speaker it may have any taint.
    facts.nodes.push(Node {
        speaker: false,
        ..tainted("gpu", "gpu")
    });
    let obstacles = steps(&facts, &install(), Goal::Ferrolb).expect_err("m1 and m2");
    let expected = "no DaemonSet of ferrolb can run on m1, m2, where MetalLB's speaker runs \
                    (announcer: it does not tolerate the taint master:NoSchedule): ";
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    assert!(obstacles[0].starts_with(expected), "{obstacles:?}");

    let all = json!({"tolerations": [{"operator": "Exists"}]});
    let mut install = install();
    install.daemonsets.push(daemonset("layer2", "layer2", &all));
    steps(&facts, &install, Goal::Ferrolb).expect("one can run");
    let peer = PlannedPeer {
        name: "tor".to_owned(),
        router: None,
    };
    let of = |node: &str| (node.to_owned(), vec![peer.clone()]);
    let peers = PlannedPeers::from([of("a"), of("m2"), of("gpu")]);
    let losses = without_sessions(&facts.nodes, &install, &peers);
    let expected = "m2 would have no BGP session: ferrolb's announcer can't run there (announcer: \
                    it does not tolerate the taint master:NoSchedule)";
    assert_eq!(losses, [expected]);
}

#[test]
fn layer_2_needs_a_daemonset_with_its_role_that_the_node_accepts() {
    let nodes = [node("a"), tainted("m", "master")];
    let without = |daemonsets: Vec<Value>| {
        let install = Install {
            daemonsets,
            ..install()
        };
        without_layer2(&nodes, &install)
            .into_iter()
            .map(|(node, reason)| format!("{node}: {reason}"))
            .collect::<Vec<_>>()
    };
    let pod = json!({});
    let announcer = daemonset("announcer", "announcer", &pod);
    let none = "the manifests contain none";
    assert_eq!(
        without(vec![announcer.clone()]),
        [format!("a: {none}"), format!("m: {none}")]
    );
    let refused = "m: l2: it does not tolerate the taint master:NoSchedule";
    for arguments in [
        json!(["run", "--role=layer2"]),
        json!(["run", "--role", "layer2"]),
        json!(["run", "--role=all"]),
        json!(["run"]),
    ] {
        let mut layer2 = daemonset("l2", "", &pod);
        layer2["spec"]["template"]["spec"]["containers"][0]["args"] = arguments;
        assert_eq!(without(vec![announcer.clone(), layer2]), [refused]);
    }
}

#[test]
fn migrate_needs_the_kind_by_which_it_sees_sessions() {
    let install = Install {
        bgp_sessions: false,
        ..install()
    };
    let obstacles = steps(&facts(), &install, Goal::Ferrolb).expect_err("no CRD");
    assert!(obstacles[0].contains("0-crds.yaml"), "{obstacles:?}");
    let facts = Facts {
        bgp_sessions: true,
        ..facts()
    };
    steps(&facts, &install, Goal::Ferrolb).expect("the cluster has it");
}

#[test]
fn undo_returns_the_moved_nodes_then_the_controller_then_the_webhooks() {
    let mut facts = begun();
    facts.record = Some(self::facts().to_record());
    marked(&mut facts, 0, None);
    let expected = [
        Step::ReturnNode {
            node: "a".to_owned(),
            speaker: true,
        },
        Step::StopAllocator,
        Step::StartController("controller".to_owned()),
        Step::RestoreConversion("bgppeers.metallb.io".to_owned()),
        Step::DeleteFerrolb,
        Step::RestoreWebhooks,
        Step::ReleaseSpeaker("metallb-system/speaker".to_owned()),
        Step::UnmarkNodes(vec!["a".to_owned(), "b".to_owned()]),
        Step::DeleteRecord,
    ];
    assert_eq!(to(&facts, Goal::Metallb), expected);
}

#[test]
fn undo_is_refused_before_it_drains_a_node_if_a_workload_of_metallb_is_gone() {
    let refused = |facts: &Facts| steps(facts, &Install::default(), Goal::Metallb);
    let mut facts = begun();
    facts.speakers.clear();
    let obstacles = refused(&facts).expect_err("the speaker is gone");
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    for part in ["DaemonSet metallb-system/speaker", "OnDelete", "--finish"] {
        assert!(obstacles[0].contains(part), "{obstacles:?}");
    }
    facts.controllers.clear();
    let obstacles = refused(&facts).expect_err("both are gone");
    assert!(
        obstacles[1].contains("Deployment controller"),
        "{obstacles:?}"
    );
    // The rest of an interrupted --finish needs none of them.
    for node in [0, 1] {
        marked(&mut facts, node, None);
    }
    assert!(!to(&facts, Goal::Finish).is_empty());
}

#[test]
fn undo_starts_no_speaker_where_none_ran() {
    let mut facts = begun();
    facts.nodes.push(Node {
        speaker: false,
        ..node("new")
    });
    let returned = Step::ReturnNode {
        node: "new".to_owned(),
        speaker: false,
    };
    assert_eq!(to(&facts, Goal::Metallb)[0], returned);
}

#[test]
fn finish_is_refused_while_a_node_has_metallbs_speaker() {
    let mut facts = begun();
    marked(&mut facts, 0, None);
    let obstacles = steps(&facts, &Install::default(), Goal::Finish);
    let obstacles = obstacles.expect_err("b is left");
    assert!(obstacles[0].contains("still runs on b"), "{obstacles:?}");

    marked(&mut facts, 1, None);
    let expected = [
        Step::KeepSecrets,
        Step::DeleteSpeaker("metallb-system/speaker".to_owned()),
        Step::DeleteController("controller".to_owned()),
        Step::DeleteRecord,
    ];
    assert_eq!(to(&facts, Goal::Finish), expected);
}

#[test]
fn undo_and_finish_need_a_migration_that_has_begun() {
    for goal in [Goal::Metallb, Goal::Finish] {
        let obstacles = steps(&facts(), &Install::default(), goal).expect_err("not begun");
        assert!(
            obstacles[0].contains("no migration has begun"),
            "{obstacles:?}"
        );
    }
}

#[test]
fn obstacles_are_listed_together_with_their_remedies() {
    let mut facts = facts();
    facts.frr_k8s = Some(FrrK8s {
        foreign_configurations: vec!["default/transit".to_owned()],
        ..frr_k8s()
    });
    facts.controllers[0].flags = BTreeSet::from(["--lb-class=x".to_owned()]);
    let install = Install {
        without_affinity: vec!["ferrolb-announcer".to_owned()],
        ..install()
    };
    let obstacles = steps(&facts, &install, Goal::Ferrolb).expect_err("three obstacles");
    let all = obstacles.join("\n");
    assert_eq!(obstacles.len(), 3, "{all}");
    for part in [
        "frr-k8s (frr-k8s-system/daemon)",
        "default/transit",
        "ferrolb-announcer",
        "--lb-class=x",
    ] {
        assert!(all.contains(part), "{all}");
    }
    let empty = steps(&Facts::default(), &self::install(), Goal::Ferrolb);
    let empty = empty.expect_err("no MetalLB");
    assert!(empty[0].contains("--namespace"), "{empty:?}");
}

#[test]
fn frr_k8s_ends_node_by_node_with_the_speaker_that_leaves_its_sessions_to_it() {
    let facts = facts_with_frr_k8s();
    let steps = to(&facts, Goal::Ferrolb);
    for daemonset in ["metallb-system/speaker", "frr-k8s-system/daemon"] {
        let bind = Step::BindSpeaker(daemonset.to_owned());
        assert!(steps.contains(&bind), "{steps:?}");
    }
    let record = facts.to_record();
    assert!(record.frr_k8s, "{record:?}");
    assert_eq!(record.update_strategies.len(), 2, "{record:?}");
}

#[test]
fn finish_deletes_the_webhook_of_frr_k8s_before_its_deployment() {
    let mut facts = facts_with_frr_k8s();
    facts.record = Some(facts.to_record());
    let expected = [
        Step::KeepSecrets,
        Step::DeleteSpeaker("metallb-system/speaker".to_owned()),
        Step::DeleteSpeaker("frr-k8s-system/daemon".to_owned()),
        Step::DeleteWebhook("frr-k8s-webhooks".to_owned()),
        Step::DeleteFrrK8s("frr-k8s-system/webhook".to_owned()),
        Step::DeleteController("controller".to_owned()),
        Step::DeleteRecord,
    ];
    assert_eq!(to(&facts, Goal::Finish), expected);
}

#[test]
fn sessions_that_frr_k8s_has_need_its_daemonset() {
    let mut facts = facts();
    facts.frr_k8s = Some(FrrK8s::default());
    let obstacles = steps(&facts, &install(), Goal::Ferrolb).expect_err("no DaemonSet");
    assert!(
        obstacles[0].contains("app.kubernetes.io/name=frr-k8s"),
        "{obstacles:?}"
    );
}

#[test]
fn a_record_survives_its_way_through_the_cluster() {
    let record = facts().to_record();
    let text = serde_json::to_string(&record).expect("JSON");
    assert_eq!(serde_json::from_str::<Record>(&text).expect("read"), record);
    assert_eq!(
        record.nodes,
        BTreeSet::from(["a".to_owned(), "b".to_owned()])
    );
}
