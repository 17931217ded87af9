//! The router's side of the sessions: which router ([`router`]), what it needs for its sessions
//! with the nodes ([`needs`]), what of that a syntax can express ([`fit`]), and one writer for each
//! syntax.
//!
//! Pure: it reads the index. No text contains a password: a configuration names a variable
//! instead, and where its value is.

mod filter;
mod fit;
mod group;
mod names;
mod needs;
mod router;
mod writers;

pub(crate) use self::fit::Syntax;
use self::needs::Needs;
pub(crate) use self::router::RouterError;
use super::index::Index;

/// A generated configuration.
#[derive(Debug)]
pub(crate) struct RouterConfig {
    /// The configuration.
    pub text: String,
    /// What it lacks, and why.
    pub left_out: Vec<String>,
    /// What the operator should know, and write into it.
    pub remarks: Vec<String>,
}

/// The configuration of a router: the one that BGPPeers give any of these names, or the only one.
///
/// # Errors
/// There is no such router, or the objects name several.
pub(crate) fn router_config(
    index: &Index,
    router: &[String],
    syntax: Syntax,
) -> Result<RouterConfig, RouterError> {
    let routers = router::choose(index.config(), router)?;
    let needs = fit::fit(Needs::of(index, routers)?, syntax);
    let text = writers::write(&needs, syntax);
    let variables = needs.variables.iter();
    let variables =
        variables.map(|variable| format!("replace ${{{}}}: {}", variable.name, variable.meaning));
    Ok(RouterConfig {
        text,
        remarks: variables.chain(needs.remarks.clone()).collect(),
        left_out: needs.left_out,
    })
}
