//! `ferrolb peer`: details of one session of a running daemon.

use std::fmt::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ferrolb_bgp::config::{PeerConfig, Remote};
use ferrolb_bgp::fsm::{
    BfdStatus, MessageCounters, OpenSummary, PastNotification, PeerDetail, PeerStatus, Timer,
};

use super::Output;
use super::client_args::{AskArgs, rejected};
use super::log::{entry_text, octets};
use super::output::{Style, age, json, print, table};
use crate::core::printable::printable;
use crate::runtime::serve::control::{RejectedPeer, Request};

const EXAMPLES: &str = "\
Examples:
  ferrolb peer tor-a
  ferrolb peer 10.0.0.1
  ferrolb peer tor-a -o json | jq .open_received";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PeerArgs {
    /// BGPPeer's name or router's address.
    #[arg(value_name = "NAME|ADDRESS")]
    peer: String,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) fn run(args: &PeerArgs) -> anyhow::Result<ExitCode> {
    let request = Request::Peer {
        peer: args.peer.clone(),
    };
    let mut client = args.ask.connect()?;
    let peer: PeerDetail = client.ask(&request)?;
    match args.ask.output {
        Output::Json => json(&peer)?,
        Output::Table => {
            let mut rejected = rejected(&mut client)?;
            let configured = peer.status.template.as_ref().unwrap_or(&peer.status.name);
            rejected.retain(|rejected| rejected.name == *configured);
            print(&text(&peer, &rejected, Style::stdout())?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(peer: &PeerDetail, rejected: &[RejectedPeer], style: Style) -> Result<String, fmt::Error> {
    let status = &peer.status;
    let mut text = String::new();
    writeln!(
        text,
        "{} ({}): {} for {}\n",
        style.bold(&status.name),
        status.address_text(),
        match status.remote {
            Remote::Network(_) => "accepting connections".to_owned(),
            Remote::Router(_) | Remote::Link(_) => status.state.to_string(),
        },
        age(status.since)
    )?;
    write!(text, "{}", facts(status_lines(status)))?;
    let rejected = rejected
        .iter()
        .map(|rejected| {
            (
                "rejected",
                format!("{}: {}", rejected.object, rejected.reason),
            )
        })
        .collect();
    section(&mut text, style, "Current state", rejected)?;
    section(&mut text, style, "Configured", config_lines(&peer.config))?;
    if let (None, None) = (&peer.open_sent, &peer.open_received) {
        writeln!(text, "\n{}\nnone yet", style.bold("OPEN"))?;
    }
    for (name, open) in [
        ("OPEN sent", &peer.open_sent),
        ("OPEN received", &peer.open_received),
    ] {
        if let Some(open) = open {
            section(&mut text, style, name, open_lines(open))?;
        }
    }
    section(&mut text, style, "Negotiated", negotiated_lines(status))?;
    section(&mut text, style, "Timers", timer_lines(peer))?;
    writeln!(text, "\n{}\n{}", style.bold("Messages"), messages(status))?;
    section(&mut text, style, "Prefixes and errors", count_lines(peer))?;
    section(
        &mut text,
        style,
        "Last NOTIFICATIONs",
        notification_lines(peer),
    )?;
    writeln!(text, "\n{}", style.bold("Journal"))?;
    for entry in &peer.journal {
        writeln!(
            text,
            "{:>8} ago  {}",
            age(entry.age),
            printable(&entry_text(entry))
        )?;
    }
    let name = printable(&status.name);
    if let Remote::Network(_) = status.remote {
        let names = "its dynamic neighbors have sessions of their own";
        writeln!(text, "\n{names} ({name}@ADDRESS): ferrolb peers")?;
    }
    writeln!(text, "\nroutes sent to it: ferrolb routes --peer {name}")?;
    Ok(text)
}

type Lines = Vec<(&'static str, String)>;

fn section(text: &mut String, style: Style, name: &str, lines: Lines) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    write!(text, "\n{}\n{}", style.bold(name), facts(lines))
}

fn facts(lines: Lines) -> String {
    let wide = lines
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    lines
        .into_iter()
        .map(|(name, value)| format!("  {name:wide$}  {}\n", printable(&value)))
        .collect()
}

fn status_lines(status: &PeerStatus) -> Lines {
    let mut lines = Vec::new();
    if let Some(template) = &status.template {
        lines.push(("dynamic neighbor of", template.clone()));
    }
    if let Some(link) = &status.link {
        let notes = link.notes.iter();
        lines.extend(notes.map(|note| ("interface", note.clone())));
    }
    if let Some(address) = status.local_address {
        lines.push(("local address", address.to_string()));
    }
    lines.push(("local AS", status.local_asn.to_string()));
    if let Some(id) = status.local_router_id {
        lines.push(("local router ID", id.to_string()));
    }
    if let Some(id) = status.remote_router_id {
        lines.push(("remote router ID", id.to_string()));
    }
    lines.push(("sessions established", status.established_count.to_string()));
    if let Some(bfd) = &status.bfd {
        lines.extend(bfd_lines(bfd));
    }
    if let Some(error) = &status.last_error {
        lines.push((
            "last error",
            format!("{} ({} ago)", error.cause.text, age(error.ago)),
        ));
    }
    if let Some(time) = status.retry_in {
        lines.push(("retry in", age(time)));
    }
    lines
}

fn bfd_lines(bfd: &BfdStatus) -> Lines {
    let milliseconds = |time: Option<Duration>| {
        time.map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()))
    };
    let mut lines = vec![
        (
            "BFD",
            format!(
                "{} for {} ({}); remote state {} ({})",
                bfd.state,
                age(bfd.since),
                bfd.diagnostic,
                bfd.remote_state,
                bfd.remote_diagnostic
            ),
        ),
        (
            "BFD timers",
            format!(
                "transmit interval {}, detection time {}; went down {} times",
                milliseconds(bfd.transmit_interval),
                milliseconds(bfd.detection_time),
                bfd.flaps
            ),
        ),
        (
            "BFD packets",
            format!(
                "{} sent, {} received, {} discarded",
                bfd.sent, bfd.received, bfd.discarded
            ),
        ),
    ];
    if let Some(reason) = &bfd.last_discard {
        lines.push(("last discarded packet", reason.clone()));
    }
    lines
}

fn config_lines(config: &PeerConfig) -> Lines {
    let PeerConfig {
        transport, timers, ..
    } = config;
    let mut lines = vec![
        ("remote AS", config.remote_asn.to_string()),
        ("hold time", format!("{} s", timers.hold_time.as_secs())),
        ("families", list(&config.families)),
    ];
    if let Some(address) = transport.source_address {
        lines.push(("source address", address.to_string()));
    }
    if let Some(interface) = &transport.source_interface {
        lines.push(("source interface", interface.clone()));
    }
    let mut options = Vec::new();
    options.extend(transport.passive.then(|| "passive".to_owned()));
    options.extend(transport.password.is_some().then(|| "TCP MD5".to_owned()));
    options.extend(
        transport
            .ttl_security
            .map(|hops| format!("GTSM, at most {hops} hops")),
    );
    options.extend(transport.multihop.then(|| "multihop".to_owned()));
    if !options.is_empty() {
        lines.push(("transport", options.join(", ")));
    }
    if let Some(restart) = &config.graceful_restart {
        let n = if restart.notification {
            ", also after a NOTIFICATION"
        } else {
            ""
        };
        lines.push(("graceful restart", format!("{} s{n}", restart.restart_time)));
    }
    if let Some(limit) = config.prefix_limit {
        lines.push(("prefix limit", limit.to_string()));
    }
    lines
}

fn open_lines(open: &OpenSummary) -> Lines {
    let mut lines = vec![
        ("AS", open.asn.to_string()),
        ("router ID", open.router_id.to_string()),
        ("hold time", format!("{} s", open.hold_time)),
    ];
    for capability in &open.capabilities {
        lines.push((
            "capability",
            format!("{} ({})", capability.text, capability.code),
        ));
    }
    lines
}

fn negotiated_lines(status: &PeerStatus) -> Lines {
    let Some(negotiated) = &status.negotiated else {
        return Vec::new();
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    vec![
        (
            "kind",
            format!(
                "{}, AS {}",
                if negotiated.ibgp { "iBGP" } else { "eBGP" },
                negotiated.remote_asn
            ),
        ),
        ("families", list(&negotiated.families)),
        (
            "hold time",
            match negotiated.hold_time.duration() {
                Some(time) => age(time),
                None => "off".to_owned(),
            },
        ),
        ("four-octet AS numbers", yes(negotiated.four_octet_asn)),
        (
            "route refresh",
            match (negotiated.route_refresh, negotiated.enhanced_route_refresh) {
                (_, true) => "enhanced".to_owned(),
                (plain, false) => yes(plain),
            },
        ),
        ("extended messages", yes(negotiated.extended_message)),
        ("IPv4 with IPv6 next hops", yes(negotiated.ipv4_next_hop_v6)),
        (
            "keeps routes (graceful restart)",
            match &negotiated.graceful_restart {
                Some(restart) => format!(
                    "for {} s after connection loss{}",
                    restart.restart_time,
                    if restart.notification {
                        ", NOTIFICATION or hold timer expiry"
                    } else {
                        ""
                    }
                ),
                None => "no".to_owned(),
            },
        ),
    ]
}

fn timer_lines(peer: &PeerDetail) -> Lines {
    let label = |timer| match timer {
        Timer::ConnectRetry => "connect retry timer expires in",
        Timer::IdleHold => "idle hold timer expires in",
        Timer::Hold => "hold timer expires in",
        Timer::Keepalive => "next KEEPALIVE in",
        Timer::SendHold => "send hold timer expires in",
        Timer::DynamicIdle => "dynamic neighbor removed in",
    };
    let running = peer.timers.iter();
    running
        .map(|(timer, left)| (label(timer), age(left)))
        .collect()
}

fn messages(status: &PeerStatus) -> String {
    let row = |name: &str, count: fn(&MessageCounters) -> u64| {
        vec![
            format!("  {name}"),
            count(&status.sent).to_string(),
            count(&status.received).to_string(),
        ]
    };
    let rows = [
        row("OPEN", |count| count.open),
        row("UPDATE", |count| count.update),
        row("KEEPALIVE", |count| count.keepalive),
        row("NOTIFICATION", |count| count.notification),
        row("ROUTE-REFRESH", |count| count.route_refresh),
    ];
    table(&["", "SENT", "RECEIVED"], rows)
}

fn count_lines(peer: &PeerDetail) -> Lines {
    let status = &peer.status;
    let errors = status.update_errors;
    let mut lines = vec![("prefixes sent", status.prefixes_advertised.to_string())];
    if status.announcements_left_out > 0 {
        lines.push((
            "not sent, attributes too long",
            status.announcements_left_out.to_string(),
        ));
    }
    for count in &peer.prefixes {
        lines.push((
            "received: announced, withdrawn",
            format!(
                "{}, {} ({})",
                count.announced, count.withdrawn, count.family
            ),
        ));
    }
    if let Some(limit) = status.prefix_limit {
        lines.push((
            "prefixes received (limit applies per family)",
            format!("{}, limit {}", limit.received, limit.limit),
        ));
    }
    for (name, count) in [
        ("rejected as looped (own AS or own next hop)", errors.looped),
        ("UPDATEs treated as withdraw", errors.treated_as_withdraw),
        ("attributes discarded", errors.attributes_discarded),
    ] {
        if count > 0 {
            lines.push((name, count.to_string()));
        }
    }
    for error in &peer.attribute_errors {
        lines.push((
            "attribute errors",
            format!("{} × {}: {}", error.count, error.name, error.treatment),
        ));
    }
    lines
}

fn notification_lines(peer: &PeerDetail) -> Lines {
    let line = |past: &PastNotification| {
        let PastNotification { notification, ago } = past;
        let quoted = notification.text.as_ref();
        let quoted = quoted.map(|text| format!(" \"{}\"", text.escape_debug()));
        format!(
            "{}{}{}, {} ago",
            notification.name,
            quoted.unwrap_or_default(),
            octets(notification),
            age(*ago)
        )
    };
    let sent = peer.last_sent.as_ref().map(|past| ("sent", line(past)));
    let received = peer
        .last_received
        .as_ref()
        .map(|past| ("received", line(past)));
    sent.into_iter().chain(received).collect()
}

fn list<T: ToString>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_bfd_session_is_printed() {
        let bfd: BfdStatus = serde_json::from_value(serde_json::json!({
            "state": "Up", "since": 61, "diagnostic": "none",
            "remote_state": "Down", "remote_diagnostic": "detection time expired",
            "transmit_interval": 0.05, "detection_time": 0.15, "flaps": 2,
            "sent": 10, "received": 9, "discarded": 1, "last_discard": "wrong TTL",
        }))
        .expect("a status");
        let lines = bfd_lines(&bfd);
        let lines: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            lines,
            [
                "Up for 1m1s (none); remote state Down (detection time expired)",
                "transmit interval 50 ms, detection time 150 ms; went down 2 times",
                "10 sent, 9 received, 1 discarded",
                "wrong TTL",
            ]
        );
    }
}
