//! Moves and self-tests: each waits for its result.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ferrolb_layer2::moves::{PlannedMove, Rebalance};
use ferrolb_layer2::status::SelfTest;
use serde::Serialize;

use super::detail::answers;
use super::words::{remedy, why};
use super::{L2AskArgs, status};
use crate::cli::Output;
use crate::cli::output::{Style, json, print, table};
use crate::core::printable::printable;
use crate::runtime::serve::control::Request;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::layer2::{IDLE, Layer2Status, MoveStarted, TestStarted};

/// A move takes milliseconds, or 500 ms where the first request is lost.
const MOVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A self-test takes 0.1 s, unless its request is lost.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

const MOVE_EXAMPLES: &str = "\
Examples:
  ferrolb l2 move 203.0.113.10 node-b

The node must be a candidate of the address, and ready: ferrolb l2 ADDRESS lists the candidates.
Connections to the address break where the new node has other endpoints or no state of them. The
address stays there, unless a node has a higher preference: then it moves to that one after 30 s.
With sticky: false in its L2Advertisement it can move again within a second.";

#[derive(Debug, Args)]
#[command(after_help = MOVE_EXAMPLES)]
pub(super) struct MoveArgs {
    /// The address.
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,
    /// The node that takes it over.
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    ask: L2AskArgs,
}

const REBALANCE_EXAMPLES: &str = "\
Examples:
  ferrolb l2 rebalance --dry-run        show the moves
  ferrolb l2 rebalance                  move the addresses, one after the other

Addresses move only between nodes that are equal in preference. The address that changed its owner
last moves first. Ends at the first move that fails.";

#[derive(Debug, Args)]
#[command(after_help = REBALANCE_EXAMPLES)]
pub(super) struct RebalanceArgs {
    /// Only show the moves.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: L2AskArgs,
}

const TEST_EXAMPLES: &str = "\
Examples:
  ferrolb l2 test 203.0.113.10
  ferrolb l2 test 203.0.113.10 -o json | jq .passed

Passes if exactly one Ethernet address answers, and it is that of the owner. A third node resolves
the address: of two nodes, only the owner can run the test.";

#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub(super) struct TestArgs {
    /// The address.
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,
    #[command(flatten)]
    ask: L2AskArgs,
}

/// A finished move, as JSON.
#[derive(Debug, Serialize)]
struct Moved {
    address: IpAddr,
    from: Arc<str>,
    to: String,
}

pub(super) fn run_move(args: &MoveArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.ask.connect()?;
    let MoveArgs { address, node, .. } = args;
    let from = move_and_wait(&mut client, *address, node)?;
    match args.ask.output {
        Output::Json => json(&Moved {
            address: *address,
            from,
            to: node.clone(),
        })?,
        Output::Table if *from == **node => print(&format!(
            "{} announces {address} already\n",
            printable(node)
        ))?,
        Output::Table => print(&moved_line(*address, &from, node))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn moved_line(address: IpAddr, from: &str, to: &str) -> String {
    format!("{address}  {} → {}\n", printable(from), printable(to))
}

/// Returns the owner before, once `node` is the owner.
fn move_and_wait(client: &mut Client, address: IpAddr, node: &str) -> anyhow::Result<Arc<str>> {
    let MoveStarted { from } = client.ask(&Request::L2Move {
        address,
        node: node.to_owned(),
    })?;
    let begun = Instant::now();
    loop {
        let found = current(client, address)?;
        let found = found.status.addresses.get(&address).cloned();
        let Some(found) = found else {
            anyhow::bail!("{address} was removed during the move");
        };
        if found.owner.as_deref() == Some(node) {
            return Ok(from);
        }
        if begun.elapsed() > MOVE_TIMEOUT {
            let owner = found.owner.as_deref().unwrap_or("no node");
            let remedy = remedy(&found, false).map(|remedy| format!("; {remedy}"));
            anyhow::bail!(
                "{owner} still announces {address} after {} s ({}){}: {from} received no request \
                 or {node} did not claim it. See ferrolb l2 on {from}, and the log of both",
                MOVE_TIMEOUT.as_secs(),
                why(&found),
                remedy.unwrap_or_default(),
            );
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The status of one address.
fn current(client: &mut Client, address: IpAddr) -> anyhow::Result<Layer2Status> {
    let found = status(client, Some(address))?;
    Ok(found.ok_or_else(|| AskError::Rejected(IDLE.to_owned()))?)
}

pub(super) fn run_rebalance(args: &RebalanceArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.ask.connect()?;
    let plan: Rebalance = client.ask(&Request::L2Rebalance)?;
    let people = args.ask.output == Output::Table;
    if people {
        print(&plan_text(&plan, args.dry_run, Style::stdout()))?;
    } else {
        json(&plan)?;
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    for (done, PlannedMove { address, from, to }) in plan.moves.iter().enumerate() {
        if let Err(error) = move_and_wait(&mut client, *address, to) {
            let total = plan.moves.len();
            anyhow::bail!(
                "{error:#}. {done} of {total} addresses were moved; ferrolb l2 rebalance plans \
                 the others again"
            );
        }
        if people {
            print(&moved_line(*address, from, to))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn plan_text(plan: &Rebalance, dry_run: bool, style: Style) -> String {
    let row = |node: &ferrolb_layer2::moves::NodeLoad| {
        vec![
            node.node.to_string(),
            node.before.to_string(),
            node.after.to_string(),
        ]
    };
    let nodes = plan.nodes.iter().map(row);
    if plan.moves.is_empty() {
        let rows = nodes.map(|row| row.into_iter().take(2).collect());
        let nodes = table(&["NODE", "OWNS"], rows);
        return format!(
            "{nodes}\n\nnothing to move: no node owns two addresses more than one that may take \
             one\n"
        );
    }
    let mut text = format!("{}\n", table(&["NODE", "OWNS", "AFTER"], nodes));
    if dry_run {
        let row = |planned: &PlannedMove| {
            vec![
                planned.address.to_string(),
                planned.from.to_string(),
                planned.to.to_string(),
            ]
        };
        let moves = table(&["ADDRESS", "FROM", "TO"], plan.moves.iter().map(row));
        text += &format!("\n{}\n{moves}\n", style.bold("Moves"));
        text += "\nnothing was moved (--dry-run): ferrolb l2 rebalance moves them\n";
    } else {
        text += &format!("\n{}\n", style.bold("Moves"));
    }
    text
}

pub(super) fn run_test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.ask.connect()?;
    let address = args.address;
    let TestStarted { now } = client.ask(&Request::L2Test { address })?;
    let begun = Instant::now();
    let (found, test) = loop {
        let found = current(&mut client, address)?;
        let test = found.status.addresses.get(&address);
        let test = test.and_then(|found| found.self_test.clone());
        if let Some(test) = test.filter(|test| test.at.as_secs_f64() >= now) {
            break (found, test);
        }
        anyhow::ensure!(
            begun.elapsed() < TEST_TIMEOUT,
            "no other node answered within {} s: see the neighbors in ferrolb l2",
            TEST_TIMEOUT.as_secs()
        );
        thread::sleep(POLL_INTERVAL);
    };
    match args.ask.output {
        Output::Json => json(&test)?,
        Output::Table => print(&test_text(&found, address, &test, Style::stdout()))?,
    }
    Ok(if test.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(super) fn test_text(
    found: &Layer2Status,
    address: IpAddr,
    test: &SelfTest,
    style: Style,
) -> String {
    let owner = found.status.addresses.get(&address);
    let owner = owner.and_then(|found| found.owner.as_deref());
    let owner = owner.unwrap_or("the owner");
    let result = if test.passed {
        style.green("passed")
    } else {
        style.red("failed")
    };
    let seen = format!(
        "{} resolved {address}, {}",
        test.by,
        answers(&found.status, test)
    );
    let remedy = if test.passed {
        String::new()
    } else if test.answers.is_empty() {
        format!(
            "\n{owner} should answer: run ferrolb l2 {address} there (are requests received?), and \
             look for filters of ARP or multicast between the two nodes"
        )
    } else {
        format!(
            "\nonly {owner} should answer: remove the address from the other host, or stop what \
             answers there (MetalLB's speaker, IPVS without strictARP)"
        )
    };
    format!("{result}: {}{}\n", printable(&seen), remedy)
}
