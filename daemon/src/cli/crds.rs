//! `ferrolb crds`: prints the CRDs of ferrolb's own resources.

use std::process::ExitCode;

use super::output::print;
use crate::core::config::crd;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    print(&crd::yaml()?)?;
    Ok(ExitCode::SUCCESS)
}
