//! Tests of the lab itself, so that a failing scenario is the product's fault: links cut and mended, and each router's
//! table read as an exact set.

use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::{Daemon, scenario};
use ferrolb_interop_tests::wait::until;

fn ping(from: &Namespace, to: &str) -> Result<()> {
    from.run("busybox", &["ping", "-c1", "-W1", "-q", to]).map(drop)
}

#[test]
fn a_cut_link_loses_packets_and_keeps_its_carrier() {
    scenario("cut", |scratch| {
        let (left, right) = (Namespace::new("left")?, Namespace::new("right")?);
        let link = Link::new((&left, "eth-r"), (&right, "eth-l"))?;
        left.address("eth-r", "10.99.1.1/24")?;
        right.address("eth-l", "10.99.1.2/24")?;
        right.address("eth-l", "fd99:1::2/64")?;
        left.address("eth-r", "fd99:1::1/64")?;
        ping(&left, "10.99.1.2")?;
        ping(&left, "fd99:1::2")?;

        link.cut()?;
        ensure!(ping(&left, "10.99.1.2").is_err(), "a cut link delivers");
        ensure!(ping(&right, "fd99:1::1").is_err(), "a cut link delivers");
        let state = left.json("ip", &["-j", "link", "show", "eth-r"])?;
        ensure!(state[0]["operstate"] == "UP", "carrier lost: {state}");

        link.mend()?;
        ping(&left, "10.99.1.2")?;

        let sleeper = Daemon::start(scratch, "sleeper", right.command("sleep").arg("60"))?;
        until("the sleeper inside", Duration::from_secs(2), || {
            let pids = right.pids()?;
            ensure!(pids == [sleeper.pid()], "{pids:?}");
            Ok(())
        })?;
        let name = right.name().to_owned();
        drop(right);
        ensure!(!std::path::Path::new("/run/netns").join(name).exists());
        Ok(())
    });
}
