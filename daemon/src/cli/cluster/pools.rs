//! `ferrolb pools`: what is free, and how long it lasts.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::read::Seen;
use super::watch::{Line, Lines};
use super::{Answer, Question, answer, json_list};
use crate::cli::Output;
use crate::cli::output::{Style, print, table};
use crate::cli::world::WorldArgs;
use crate::core::overview::PoolLine;

const EXAMPLES: &str = "\
Examples:
  ferrolb pools
  ferrolb pools -w                      and print changes until interrupted
  ferrolb pools -o json | jq '.[] | select(.free == 0) | .pool'
  ferrolb pools -f manifests/           what manifests use, without a cluster

More about one: ferrolb explain pool NAME";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct PoolsArgs {
    #[command(flatten)]
    world: WorldArgs,
    /// Output format: tables for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Keep running, and print pools again when they change.
    #[arg(short, long)]
    watch: bool,
}

pub(in crate::cli) fn run(args: &PoolsArgs) -> Result<ExitCode> {
    let question = Question {
        world: &args.world,
        output: args.output,
        watch: args.watch,
    };
    answer(question, &Pools)
}

struct Pools;

impl Answer for Pools {
    fn print(&self, seen: &Seen, _: Style) -> Result<()> {
        let pools = &seen.overview.pools;
        if pools.is_empty() {
            print("no pools: create an IPAddressPool (ferrolb status names invalid ones)\n")?;
            return Ok(());
        }
        print(&format!("{}\n", text(pools)))?;
        Ok(())
    }

    fn print_json(&self, seen: &Seen) -> Result<()> {
        json_list(&seen.overview.pools)
    }

    fn lines(&self, seen: &Seen) -> Result<Lines> {
        let lines = seen.overview.pools.iter().map(|pool| {
            let text = format!("{} of {} free", number(pool.free), number(pool.capacity));
            let line = Line::new(text, pool)?;
            Ok((format!("{} {}", pool.pool, pool.family), line))
        });
        lines.collect()
    }
}

/// The table of pools.
pub(super) fn text(pools: &[PoolLine]) -> String {
    let header = [
        "POOL",
        "FAMILY",
        "USED",
        "FREE",
        "OF",
        "PER DAY",
        "DAYS LEFT",
        "ADDRESSES",
    ];
    table(&header, pools.iter().map(row))
}

fn row(pool: &PoolLine) -> Vec<String> {
    let days = pool.days_left.map(|days| days.to_string());
    let mut addresses = pool.addresses.join(", ");
    if !pool.auto_assign {
        addresses += " (only on request)";
    }
    vec![
        pool.pool.clone(),
        pool.family.clone(),
        number(pool.used),
        number(pool.free),
        number(pool.capacity),
        format!("{:.1}", pool.per_day),
        days.unwrap_or_else(|| "-".to_owned()),
        addresses,
    ]
}

/// A number of addresses. Networks of IPv6 have more than anyone counts.
fn number(number: u64) -> String {
    const MANY: u64 = 1_000_000_000;
    if number > MANY {
        "over 10^9".to_owned()
    } else {
        number.to_string()
    }
}
