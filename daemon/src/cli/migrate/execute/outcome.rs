//! What is announced when all nodes are moved.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use super::{Migration, POLL};
use crate::cli::migrate::addresses::addresses;
use crate::cli::migrate::facts::is_announcing;
use crate::cli::migrate::survey::{Survey, compared, missing_lines};
use crate::cli::output::{Style, print};
use crate::core::printable::printable;

/// Time until what is not announced is missing: an address of layer 2 is taken within 5 s after the
/// last speaker stopped to answer for it.
const SETTLES: Duration = Duration::from_secs(20);

impl Migration {
    /// Compares what ferrolb announces now with what MetalLB announced when the migration began,
    /// and prints what is missing. Returns whether nothing is.
    pub(in crate::cli::migrate) async fn compare_announced(&self) -> Result<bool> {
        let end = Instant::now() + SETTLES;
        loop {
            let survey = Survey::of_pods(&self.cluster, &self.namespace, is_announcing).await?;
            let addresses = addresses(&self.cluster).await?;
            let before = compared(&self.record.announced, &survey, &addresses);
            let missing = missing_lines(&before, &survey, &addresses);
            if !missing.is_empty() && Instant::now() < end {
                sleep(POLL).await;
                continue;
            }
            if let Some(gap) = survey.gap("Pods of ferrolb") {
                print(&format!("notice: {}\n", printable(&gap)))?;
            }
            let made = before.intersection(&survey.announced).count();
            print(&format!(
                "ferrolb announces {made} of {} announcements that MetalLB made\n",
                before.len()
            ))?;
            let style = Style::stdout();
            for line in &missing {
                print(&format!("{}: {}\n", style.red("missing"), printable(line)))?;
            }
            return Ok(missing.is_empty());
        }
    }
}
