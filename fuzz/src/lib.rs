//! The bodies of the fuzz targets, which the property tests on stable run too.

#[path = "../../bgp/tests/fuzz_targets/bodies/mod.rs"]
pub mod bodies;
