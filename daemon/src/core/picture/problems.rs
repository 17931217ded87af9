//! What is wrong with objects.

use super::ProblemShape;
use crate::core::config::Severity;
use crate::core::index::Index;

/// The maximum number of problems in a picture: one notice for each of thousands of services says
/// no more than the first ones.
const PROBLEMS_MAX: usize = 200;

/// The problems, errors first, and the number of those that are left out.
pub(super) fn of(index: &Index) -> (Vec<ProblemShape>, usize) {
    let mut problems = index.problems();
    problems.sort();
    problems.sort_by_key(|problem| problem.severity);
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    let shown = problems.into_iter().take(PROBLEMS_MAX);
    let shown = shown.map(|problem| ProblemShape {
        object: problem.object.to_string(),
        error: problem.severity != Severity::Notice,
        message: problem.message,
    });
    (shown.collect(), more)
}
