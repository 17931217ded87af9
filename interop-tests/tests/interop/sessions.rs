//! Sessions: who dials, what they carry, how they end.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::process::signal_pid;
use ferrolb_interop_tests::router::{RouteEntry, await_kernel};
use ferrolb_interop_tests::topology::{MD5_PASSWORD, NODE_ASN, TOR_IPV6};
use ipnet::IpNet;

use crate::{AT_ONCE, Cell, HOLD_TIME, OUTLIVED, UP, same};

pub(crate) fn ebgp(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler())?;
    if cell.router.installs_routes() {
        let [v4, v6] = cell.prefixes().map(|prefix| prefix.to_string());
        let node = cell.node();
        await_kernel(
            &cell.rack.tor,
            &v4,
            &BTreeSet::from([IpAddr::V4(node.ipv4)]),
            AT_ONCE,
        )?;
        await_kernel(
            &cell.rack.tor,
            &v6,
            &BTreeSet::from([IpAddr::V6(node.ipv6)]),
            AT_ONCE,
        )?;
    }
    signal_pid("INT", announcer.pid())?;
    cell.await_routes(&BTreeSet::new(), AT_ONCE)?;
    let status = announcer.wait_exit(AT_ONCE)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

pub(crate) fn ipv6(cell: &Cell<'_>) -> Result<()> {
    // IPv4 over IPv6 is another row.
    let [_, v6] = cell.prefixes();
    let announcer = AnnounceExample::new(cell.scratch, cell.node()).with("--prefix", v6);
    let _announcer = announcer.with("--peer", TOR_IPV6).start()?;
    let mut routes = cell.routes()?;
    routes.retain(|route| route.prefix == v6);
    cell.await_routes(&routes, UP)
}

pub(crate) fn communities(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell.dialler();
    let announcer = announcer
        .with("--community", "64700:120")
        .with("--community", "64700:20");
    let announcer = announcer.with("--large-community", "64700:1:2");
    let announcer = announcer.with("--large-community", "64700:4200000000:7");
    let _announcer = announcer.start()?;
    let routes = cell.routes()?.into_iter().map(|route| {
        route
            .communities(&["64700:120", "64700:20"])
            .large_communities(&["64700:1:2", "64700:4200000000:7"])
    });
    cell.await_routes(&routes.collect(), UP)
}

pub(crate) fn ibgp(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell
        .dialler()
        .peer_asn(NODE_ASN)
        .with("--local-pref", 150)
        .start()?;
    let routes = cell
        .routes()?
        .into_iter()
        .map(|route| route.local_pref(150));
    cell.await_routes(&routes.collect(), UP)
}

/// We stand still, though our kernel acknowledges: they end the session, and we hear why when we go on.
pub(crate) fn their_hold_timer(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler())?;
    announcer.suspend()?;
    cell.await_routes(&BTreeSet::new(), HOLD_TIME * 3)?;
    announcer.resume()?;
    cell.await_said(&announcer, "received Hold Timer Expired", AT_ONCE)?;
    cell.await_routes(&cell.routes()?, UP)
}

/// Nothing of theirs arrives any more: we end the session, and they hear why.
pub(crate) fn our_hold_timer(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell.run(&cell.dialler())?;
    cell.node().uplink.cut_towards(&cell.node().namespace)?;
    cell.await_said(&announcer, "sent Hold Timer Expired", HOLD_TIME * 3)?;
    // Long before their own hold timer, which began anew with our last KEEPALIVE.
    cell.await_routes(&BTreeSet::new(), AT_ONCE)?;
    cell.await_heard(&["hold", "expired"], AT_ONCE)?;
    cell.node().uplink.mend()?;
    cell.await_routes(&cell.routes()?, UP)
}

pub(crate) fn our_text(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(
        &cell
            .dialler()
            .with("--shutdown-text", "rack move, back at noon"),
    )?;
    signal_pid("INT", announcer.pid())?;
    announcer.wait_exit(AT_ONCE)?;
    cell.await_heard(&["rack move, back at noon"], AT_ONCE)
}

pub(crate) fn their_text(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell.run(&cell.dialler())?;
    cell.router.shut_down(cell.address(), "new line card")?;
    cell.await_said(
        &announcer,
        "received Cease/Administrative Shutdown",
        AT_ONCE,
    )?;
    cell.await_said(&announcer, "new line card", AT_ONCE)?;
    cell.await_routes(&BTreeSet::new(), AT_ONCE)
}

pub(crate) fn right_password(cell: &Cell<'_>) -> Result<()> {
    let file = cell.scratch.file("right.password");
    fs::write(&file, MD5_PASSWORD)?;
    cell.run(&cell.dialler().with("--password-file", file.display()))
        .map(drop)
}

pub(crate) fn wrong_password(cell: &Cell<'_>) -> Result<()> {
    let file = cell.scratch.file("wrong.password");
    fs::write(&file, "rack-42-secrets")?;
    let _announcer = cell
        .dialler()
        .with("--password-file", file.display())
        .start()?;
    let peer = cell.address();
    consistently("no session", Duration::from_secs(4), || {
        let sessions = cell.router.sessions()?;
        ensure!(!sessions.contains_key(&peer), "{sessions:?}");
        Ok(())
    })
}

/// All but ourselves end the session for that, and it comes back.
pub(crate) fn changed_password(cell: &Cell<'_>) -> Result<()> {
    let went_on = change_password(cell)?;
    ensure!(
        went_on == (cell.router.name() == "ferrolb"),
        "the session went on: {went_on}"
    );
    Ok(())
}

pub(crate) fn changed_password_in_session(cell: &Cell<'_>) -> Result<()> {
    ensure!(change_password(cell)?, "another session");
    Ok(())
}

/// Tells whether the session went on.
fn change_password(cell: &Cell<'_>) -> Result<bool> {
    const NEW: &str = "rack-42-changed";
    let file = cell.scratch.file("changing.password");
    fs::write(&file, MD5_PASSWORD)?;
    let announcer = cell.run(&cell.dialler().with("--password-file", file.display()))?;
    let before = cell.router.sessions()?;
    fs::write(&file, NEW)?;
    signal_pid("HUP", announcer.pid())?;
    cell.router.change_password(NEW)?;
    // Whoever had kept the old password would have lost the session by then.
    std::thread::sleep(OUTLIVED);
    cell.await_routes(&cell.routes()?, UP)?;
    Ok(cell.router.sessions()? == before)
}

pub(crate) fn passive(cell: &Cell<'_>) -> Result<()> {
    let listen = format!("{}:179", cell.node().ipv4);
    cell.run(&cell.dialler().flag("--passive").with("--listen", listen))
        .map(drop)
}

/// They dial, and we know but the network they come from and that their AS is another one.
pub(crate) fn dynamic(cell: &Cell<'_>) -> Result<()> {
    let listen = format!("{}:179", cell.node().ipv4);
    let announcer = cell
        .announcer()
        .with("--peer", "10.99.0.0/24")
        .peer_asn("external");
    let mut announcer = cell.run(&announcer.with("--listen", listen))?;
    signal_pid("INT", announcer.pid())?;
    announcer.wait_exit(AT_ONCE)?;
    cell.await_routes(&BTreeSet::new(), AT_ONCE)
}

/// Whoever wins, one session comes up and stays.
pub(crate) fn both(cell: &Cell<'_>) -> Result<()> {
    let listen = format!("{}:179", cell.node().ipv4);
    // The lower router ID of the two: with the higher one ExaBGP 4.2 gives its own connection up for ours, and then forgets
    // that as well.
    let announcer = cell.dialler().with("--router-id", "10.0.0.1");
    let _announcer = cell.run(&announcer.with("--listen", listen))?;
    let mark = || Ok::<_, anyhow::Error>(cell.router.sessions()?.get(&cell.address()).cloned());
    let before = mark()?;
    ensure!(before.is_some(), "no session");
    consistently("the session", OUTLIVED, || {
        let now = mark()?;
        ensure!(now == before, "{now:?} after {before:?}");
        Ok(())
    })
}

pub(crate) fn refresh(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell.run(&cell.dialler())?;
    let before = cell.router.updates_from(cell.address())?;
    cell.router.refresh(cell.address())?;
    eventually("both routes again", AT_ONCE, || {
        let now = cell.router.updates_from(cell.address())?;
        ensure!(now >= before + 2, "{now} UPDATEs after {before}");
        Ok(())
    })?;
    cell.await_routes(&cell.routes()?, AT_ONCE)
}

/// As many /32 as the examples' filters let through, and /128 for the rest.
pub(crate) fn ten_thousand(cell: &Cell<'_>) -> Result<()> {
    // GoBGP takes many seconds to print them.
    const SLOW: Duration = Duration::from_secs(90);
    let v4 = ["192.0.2", "198.51.100", "203.0.113"]
        .into_iter()
        .flat_map(|net| (0..=255).map(move |host| format!("{net}.{host}/32")));
    let v6 = (0..10_000 - 3 * 256).map(|host| format!("2001:db8::{host:x}/128"));
    let prefixes: Vec<String> = v4.chain(v6).collect();
    let file = cell.scratch.file("prefixes");
    fs::write(&file, prefixes.join("\n"))?;
    let announcer = cell.dialler().with("--prefix-file", file.display());
    let mut announcer = announcer.start()?;
    let mut expected = cell.routes()?;
    for prefix in &prefixes {
        let node = cell.node();
        let v6 = prefix.contains(':');
        let next_hop = if v6 {
            node.ipv6.to_string()
        } else {
            node.ipv4.to_string()
        };
        expected.insert(RouteEntry::new(prefix, &next_hop)?);
    }
    // To ask for one costs little; all of them are printed when they are all there.
    let last: IpNet = prefixes.last().context("no prefixes")?.parse()?;
    eventually("the last prefix", UP, || {
        let described = cell.router.describe(last)?;
        ensure!(described.contains("fd99::"), "{described}");
        Ok(())
    })?;
    let table_is = |expected: &BTreeSet<RouteEntry>| {
        eventually("the router's table", SLOW, || {
            same(&cell.router.plain_table()?, expected)
        })
    };
    table_is(&expected)?;
    signal_pid("INT", announcer.pid())?;
    announcer.wait_exit(AT_ONCE)?;
    eventually("no session", AT_ONCE, || {
        ensure!(!cell.in_session()?, "one");
        Ok(())
    })?;
    table_is(&BTreeSet::new())
}
