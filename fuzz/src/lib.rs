//! The bodies of the fuzz targets. The test `fuzz_targets` of ferrolb-bgp has them too.

#[path = "../../bgp/tests/fuzz_targets/bodies/mod.rs"]
pub mod bodies;
