//! The poll contract holds for random inputs, and a run can be replayed.

use std::time::Instant;

use proptest::prelude::*;

use crate::harness::random::{Op, PEERS, Run};

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..PEERS, 0..4u8, any::<bool>())
            .prop_map(|(peer, hold, passive)| Op::SetPeer { peer, hold, passive }),
        1 => (0..PEERS).prop_map(|peer| Op::RemovePeer { peer }),
        2 => (0..PEERS, 0..20u8, any::<bool>())
            .prop_map(|(peer, prefix, announce)| Op::Routes { peer, prefix, announce }),
        1 => Just(Op::OpenGate),
        4 => any::<u8>().prop_map(|which| Op::Connected { which }),
        1 => any::<u8>().prop_map(|which| Op::ConnectFailed { which }),
        2 => (0..4u8).prop_map(|from| Op::Accepted { from }),
        12 => (any::<u8>(), 0..12u8).prop_map(|(which, kind)| Op::Message { which, kind }),
        1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(which, octets)| Op::Noise { which, octets }),
        1 => any::<u8>().prop_map(|which| Op::Closed { which }),
        4 => (0..100_000u32).prop_map(|millis| Op::Wait { millis }),
        2 => Just(Op::Timeout),
        6 => any::<u8>().prop_map(|which| Op::Read { which }),
    ]
}

proptest! {
    #[test]
    fn any_run_obeys_the_contract_and_replays_to_the_octet(
        mut ops in prop::collection::vec(op(), 1..120),
        shutdown in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<bool>())),
    ) {
        // At most one shutdown, since most later operations have no effect.
        if let Some((at, graceful_restart)) = shutdown {
            ops.insert(at.index(ops.len()), Op::Shutdown { graceful_restart });
        }
        let start = Instant::now();
        let run = || {
            let mut run = Run::new(start);
            for op in &ops {
                run.perform(op);
            }
            run.shut_down();
            run.transcript
        };
        prop_assert_eq!(run(), run());
    }
}
