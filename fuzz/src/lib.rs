//! The bodies of the fuzz targets. The tests `fuzz_targets` of ferrolb-bgp and ferrolb-layer2 have
//! them too.

#[path = "../../bgp/tests/fuzz_targets/bodies/mod.rs"]
pub mod bodies;
#[path = "../../layer2/tests/fuzz_targets/bodies/mod.rs"]
pub mod layer2;
