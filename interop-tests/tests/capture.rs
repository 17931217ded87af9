//! `ferrolb capture` on a session with FRR and a password: other programs read the recordings, and
//! neither contains the password.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bgpkit_parser::models::{Bgp4MpEnum, BgpMessage, MrtMessage};
use bgpkit_parser::parser::parse_mrt_record;
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::{Process, ferrolb, run};
use ferrolb_interop_tests::router::{Kind, await_table, router_scenario};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::{MD5_PASSWORD, Node, TOR_IPV4};

const TIMEOUT: Duration = Duration::from_secs(30);
const ADDRESSES: [&str; 2] = ["192.0.2.10", "2001:db8:5::10"];

fn manifests() -> String {
    let secret = format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: tor-password, namespace: metallb-system}}
type: kubernetes.io/basic-auth
stringData: {{password: {MD5_PASSWORD}}}
"
    );
    let options = ", dualStackAddressFamily: true, passwordSecret: {name: tor-password}";
    manifest::join(&[
        &secret,
        &manifest::ferrolb_peer(TOR_IPV4, options),
        &manifest::pool("192.0.2.0/24, \"2001:db8:5::/120\""),
        &manifest::advertisement(""),
        &manifest::dual_stack_service(ADDRESSES[0], ADDRESSES[1], "node1"),
    ])
}

/// Starts a capture and waits until it runs.
fn capture(
    scratch: &Scratch,
    folder: &Folder<'_>,
    node: &Node,
    format: &str,
) -> Result<(Process, PathBuf)> {
    let file = scratch.file(&format!("recording.{format}"));
    let mut command = Command::new(ferrolb()?);
    command.args(["capture", "tor", "--format", format, "-o"]);
    command.arg(&file).arg("--socket").arg(folder.socket(node));
    let process = Process::start(scratch, &format!("capture-{format}"), &command)?;
    eventually("the recording", TIMEOUT, || {
        ensure!(file.exists(), "no {}", file.display());
        Ok(())
    })?;
    Ok((process, file))
}

/// The types of the messages that we sent and received, and the prefixes that we announced, as
/// bgpkit-parser reads them.
fn read_mrt(file: &Path) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let octets = fs::read(file)?;
    let mut rest = &octets[..];
    let (mut types, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
    while !rest.is_empty() {
        let record = parse_mrt_record(&mut rest);
        let record = record.map_err(|error| anyhow::anyhow!("{error}"))?;
        let MrtMessage::Bgp4Mp(Bgp4MpEnum::Message(message)) = record.message else {
            anyhow::bail!("{:?}", record.message);
        };
        ensure!(message.peer_ip == IpAddr::from(TOR_IPV4), "{message:?}");
        let direction = if message.is_local() {
            "sent"
        } else {
            "received"
        };
        types.insert(format!("{direction} {:?}", message.bgp_message.msg_type()));
        if let BgpMessage::Update(update) = &message.bgp_message
            && message.is_local()
        {
            let ipv4 = update.announced_prefixes.iter();
            prefixes.extend(ipv4.map(ToString::to_string));
            let ipv6 = update.attributes.get_reachable_nlri();
            let ipv6 = ipv6.into_iter().flat_map(|nlri| &nlri.prefixes);
            prefixes.extend(ipv6.map(ToString::to_string));
        }
    }
    Ok((types, prefixes))
}

/// What tcpdump says about the packets: it knows BGP, and checks the checksums.
fn read_pcap(file: &Path) -> Result<String> {
    let mut command = Command::new("tcpdump");
    run(command.args(["-nn", "-vvv", "-r"]).arg(file))
}

#[test]
fn other_programs_read_a_session_with_a_password_and_do_not_find_the_password() {
    router_scenario(Kind::Frr, "capture", 1, "md5", |scratch, rack, router| {
        let node = &rack.nodes[0];
        let folder = Folder::new(scratch)?;
        folder.write("all.yaml", &manifests())?;
        folder.write_node(node, &[])?;
        let _daemon = folder.run(node)?;
        let routes = folder.plan()?.routes(&[node], "tor")?;
        ensure!(routes.len() == 2, "{routes:?}");
        await_table(router, &routes, TIMEOUT)?;
        let (mut mrt, mrt_file) = capture(scratch, &folder, node, "mrt")?;
        let (mut pcap, pcap_file) = capture(scratch, &folder, node, "pcap")?;
        // The session ends, and another one begins.
        router.stop()?;
        router.start()?;
        await_table(router, &routes, TIMEOUT)?;
        let expected = ["OPEN", "UPDATE", "KEEPALIVE"];
        let expected = expected
            .into_iter()
            .flat_map(|kind| ["sent", "received"].map(|direction| format!("{direction} {kind}")));
        let expected: BTreeSet<String> = expected.collect();
        eventually("all messages", TIMEOUT, || {
            let (types, _) = read_mrt(&mrt_file)?;
            ensure!(types.is_superset(&expected), "{types:?}");
            Ok::<_, anyhow::Error>(())
        })?;
        // Both end at once, and what they wrote is whole.
        mrt.kill()?;
        pcap.kill()?;
        let (_, prefixes) = read_mrt(&mrt_file)?;
        let announced: Vec<String> = routes
            .iter()
            .map(|route| route.prefix.to_string())
            .collect();
        ensure!(
            announced.iter().all(|prefix| prefixes.contains(prefix)),
            "{prefixes:?}"
        );
        let packets = read_pcap(&pcap_file)?;
        for words in [
            "Open Message (1)",
            "Update Message (2)",
            "Keepalive Message (4)",
        ] {
            ensure!(packets.contains(words), "no {words}: {packets}");
        }
        ensure!(packets.contains(&announced[0]), "{packets}");
        ensure!(packets.contains("(correct)"), "{packets}");
        ensure!(
            !packets.contains("incorrect") && !packets.contains("bad cksum"),
            "{packets}"
        );
        for file in [
            &mrt_file,
            &pcap_file,
            &mrt.log().to_owned(),
            &pcap.log().to_owned(),
        ] {
            let octets = fs::read(file).with_context(|| format!("read {}", file.display()))?;
            let secret = MD5_PASSWORD.as_bytes();
            let found = octets.windows(secret.len()).any(|octets| octets == secret);
            ensure!(!found, "the password is in {}", file.display());
        }
        Ok(())
    });
}
