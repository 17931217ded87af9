//! `ferrolb crds`: prints CRDs.

use std::process::ExitCode;

use clap::Args;

use super::output::print;
use crate::core::config::crd;

const EXAMPLES: &str = "\
Examples:
  ferrolb crds | kubectl apply --server-side -f -
  ferrolb crds --metallb | kubectl apply --server-side -f -";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CrdsArgs {
    /// Print the CRDs of MetalLB's kinds instead, for a cluster that never had MetalLB: its objects
    /// can be applied as they are. Don't apply them over those of MetalLB.
    #[arg(long)]
    metallb: bool,
}

pub(super) fn run(args: &CrdsArgs) -> anyhow::Result<ExitCode> {
    let text = if args.metallb {
        crd::metallb_yaml()?
    } else {
        crd::yaml()?
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
