//! Which peer a connection belongs to: configured peers, dynamic neighbours, conflicts.

mod admission;
mod configure;
pub(super) mod dynamic;
mod matching;
