//! Scenarios with sessions: which side dials, carried routes, and how sessions end.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::process::signal_pid;
use ferrolb_interop_tests::router::{Kind, RouteEntry, await_kernel_routes};
use ferrolb_interop_tests::topology::{MD5_PASSWORD, NODE_ASN, TOR_IPV6};
use ipnet::IpNet;

use crate::{BEYOND_HOLD_TIME, Cell, HOLD_TIME, IMMEDIATELY, UP, check_equal};

pub(crate) fn ebgp(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler())?;
    if cell.router.installs_routes() {
        await_kernel_routes(&cell.rack.tor, &cell.routes()?, IMMEDIATELY)?;
    }
    signal_pid("INT", announcer.pid())?;
    cell.await_routes(&BTreeSet::new(), IMMEDIATELY)?;
    let status = announcer.wait_exit(IMMEDIATELY)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

pub(crate) fn ipv6(cell: &Cell<'_>) -> Result<()> {
    // Another row has IPv4 routes over IPv6.
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

/// ferrolb is stalled while its kernel acknowledges segments: the router's hold timer expires, and
/// ferrolb logs the NOTIFICATION when it is resumed.
pub(crate) fn router_hold_timer(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler())?;
    announcer.suspend()?;
    cell.await_routes(&BTreeSet::new(), HOLD_TIME * 3)?;
    announcer.resume()?;
    announcer.await_log(&["received Hold Timer Expired"], IMMEDIATELY)?;
    cell.await_routes(&cell.routes()?, UP)
}

/// Nothing from the router arrives: ferrolb's hold timer expires, and the router logs the
/// NOTIFICATION.
pub(crate) fn ferrolb_hold_timer(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell.run(&cell.dialler())?;
    cell.node().uplink.cut_towards(&cell.node().namespace)?;
    announcer.await_log(&["sent Hold Timer Expired"], HOLD_TIME * 3)?;
    // Long before the router's hold timer, which our last KEEPALIVE has restarted.
    cell.await_routes(&BTreeSet::new(), IMMEDIATELY)?;
    cell.await_router_log(&["hold", "expired"], IMMEDIATELY)?;
    cell.node().uplink.restore()?;
    cell.await_routes(&cell.routes()?, UP)
}

pub(crate) fn ferrolb_shutdown_text(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(
        &cell
            .dialler()
            .with("--shutdown-text", "rack move, back at noon"),
    )?;
    signal_pid("INT", announcer.pid())?;
    announcer.wait_exit(IMMEDIATELY)?;
    cell.await_router_log(&["rack move, back at noon"], IMMEDIATELY)
}

pub(crate) fn router_shutdown_text(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell.run(&cell.dialler())?;
    cell.router.shut_down(cell.address(), "new line card")?;
    announcer.await_log(&["received Cease/Administrative Shutdown"], IMMEDIATELY)?;
    announcer.await_log(&["new line card"], IMMEDIATELY)?;
    cell.await_routes(&BTreeSet::new(), IMMEDIATELY)
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

/// All routers except ferrolb end the session on a password change; it is established again.
pub(crate) fn password_change(cell: &Cell<'_>) -> Result<()> {
    let kept = change_password(cell)?;
    ensure!(
        kept == (cell.router.kind() == Kind::Ferrolb),
        "the session stayed up: {kept}"
    );
    Ok(())
}

pub(crate) fn password_change_keeps_session(cell: &Cell<'_>) -> Result<()> {
    ensure!(change_password(cell)?, "the session was replaced");
    Ok(())
}

/// Changes the password on both sides; returns whether the session stayed up.
fn change_password(cell: &Cell<'_>) -> Result<bool> {
    const NEW: &str = "rack-42-changed";
    let file = cell.scratch.file("changing.password");
    fs::write(&file, MD5_PASSWORD)?;
    let announcer = cell.run(&cell.dialler().with("--password-file", file.display()))?;
    let before = cell.router.sessions()?;
    fs::write(&file, NEW)?;
    signal_pid("HUP", announcer.pid())?;
    cell.router.change_password(NEW)?;
    // A side with the old password would lose the session within this time.
    std::thread::sleep(BEYOND_HOLD_TIME);
    cell.await_routes(&cell.routes()?, UP)?;
    Ok(cell.router.sessions()? == before)
}

pub(crate) fn passive(cell: &Cell<'_>) -> Result<()> {
    let listen = format!("{}:179", cell.node().ipv4);
    cell.run(&cell.dialler().flag("--passive").with("--listen", listen))
        .map(drop)
}

/// The router dials; ferrolb has only a network of neighbors and accepts any external AS.
pub(crate) fn dynamic(cell: &Cell<'_>) -> Result<()> {
    let listen = format!("{}:179", cell.node().ipv4);
    let announcer = cell
        .announcer()
        .with("--peer", "10.99.0.0/24")
        .peer_asn("external");
    let mut announcer = cell.run(&announcer.with("--listen", listen))?;
    signal_pid("INT", announcer.pid())?;
    announcer.wait_exit(IMMEDIATELY)?;
    cell.await_routes(&BTreeSet::new(), IMMEDIATELY)
}

/// Both sides dial; one session comes up and stays.
pub(crate) fn collision(cell: &Cell<'_>) -> Result<()> {
    let listen = format!("{}:179", cell.node().ipv4);
    // ferrolb has the lower router ID: with the higher one ExaBGP 4.2 closes its own connection in
    // favour of ours, and then drops ours, too.
    let announcer = cell.dialler().with("--router-id", "10.0.0.1");
    let _announcer = cell.run(&announcer.with("--listen", listen))?;
    let mark = || Ok::<_, anyhow::Error>(cell.router.sessions()?.get(&cell.address()).cloned());
    let before = mark()?;
    ensure!(before.is_some(), "no session");
    consistently("the session", BEYOND_HOLD_TIME, || {
        let now = mark()?;
        ensure!(now == before, "{now:?} after {before:?}");
        Ok(())
    })
}

pub(crate) fn refresh(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell.run(&cell.dialler())?;
    let before = cell.router.updates_from(cell.address())?;
    cell.router.refresh(cell.address())?;
    eventually("both routes again", IMMEDIATELY, || {
        let now = cell.router.updates_from(cell.address())?;
        ensure!(now >= before + 2, "{now} UPDATEs after {before}");
        Ok(())
    })?;
    cell.await_routes(&cell.routes()?, IMMEDIATELY)
}

/// All /32 that the filters of the examples accept, and /128 for the rest.
pub(crate) fn ten_thousand(cell: &Cell<'_>) -> Result<()> {
    // GoBGP needs many seconds to print 10,000 prefixes.
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
    // A query for one prefix is cheap; the whole table is printed only when it is complete.
    let last: IpNet = prefixes.last().context("no prefixes")?.parse()?;
    eventually("the last prefix", UP, || {
        let described = cell.router.describe(last)?;
        ensure!(described.contains("fd99::"), "{described}");
        Ok(())
    })?;
    let await_exactly = |expected: &BTreeSet<RouteEntry>| {
        eventually("the router's table", SLOW, || {
            check_equal(&cell.router.plain_table()?, expected)
        })
    };
    await_exactly(&expected)?;
    signal_pid("INT", announcer.pid())?;
    announcer.wait_exit(IMMEDIATELY)?;
    eventually("no session", IMMEDIATELY, || {
        ensure!(!cell.has_session()?, "still one");
        Ok(())
    })?;
    await_exactly(&BTreeSet::new())
}
