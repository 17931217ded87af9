//! Announces addresses by layer 2: runs the engine while there is an L2Advertisement.

pub(crate) mod engine;
