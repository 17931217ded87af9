//! The neighbors of the speaker: configured peers, dynamic neighbors, and to which of them a
//! connection belongs.

mod admission;
mod configure;
pub(super) mod conflicts;
mod dynamic;
mod matching;
mod unnumbered;
