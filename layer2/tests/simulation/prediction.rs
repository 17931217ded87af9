//! The prediction of owners against what nodes do.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrolb_layer2::config::{Candidate, Command};
use ferrolb_layer2::owners_at_a_cold_start;

use crate::world::{World, addresses, candidates, ms, spec};

#[test]
fn nodes_that_start_together_own_what_the_prediction_says() {
    for seed in 0..10 {
        let nodes = 5;
        let all = candidates(nodes);
        let preferred: Arc<[Candidate]> = all
            .iter()
            .enumerate()
            .map(|(index, candidate)| Candidate {
                weight: u32::from(index % 2 == 0),
                ..candidate.clone()
            })
            .collect();
        let few: Arc<[Candidate]> = all.iter().skip(3).cloned().collect();
        let sets = [all, preferred, few];
        let specs: BTreeMap<_, _> = addresses(60)
            .into_iter()
            .zip(0_i64..)
            .zip(sets.iter().cycle())
            .map(|((address, number), set)| (address, spec(number / 7, set)))
            .collect();
        let mut world = World::cluster(seed, nodes, &[]);
        for index in 0..nodes {
            for (address, spec) in &specs {
                world.command(index, Command::SetAddress(*address, spec.clone()));
            }
        }
        world.run(ms(5_000));
        let status = world.status(0);
        let found: BTreeMap<_, _> = status
            .addresses
            .into_iter()
            .filter_map(|(address, status)| Some((address, status.owner?)))
            .collect();
        assert_eq!(found, owners_at_a_cold_start(&specs), "seed {seed}");
    }
}
