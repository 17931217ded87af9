//! Speakers under a virtual clock.

pub(crate) mod random;
pub(crate) mod world;
