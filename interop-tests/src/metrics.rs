//! Queries a ferrolb process over HTTP: metrics and probes.

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// Address of the HTTP server, in the network namespace of the process.
pub(crate) const ADDRESS: &str = "127.0.0.1:7472";
/// The port of [`ADDRESS`].
pub(crate) const PORT: u16 = 7472;
/// The port of layer 2 processes that run beside announcers.
pub(crate) const LAYER2_PORT: u16 = 7474;

/// The body of `/metrics`, `/readyz` or `/livez`.
///
/// # Errors
/// When the process does not answer, or answers with another status than 200.
pub fn get(namespace: &Namespace, path: &str) -> Result<String> {
    get_at(namespace, PORT, path)
}

/// As [`get`], from another port.
pub(crate) fn get_at(namespace: &Namespace, port: u16, path: &str) -> Result<String> {
    // Bash's own client: the wget of Debian's static busybox crashes.
    const GET: &str = r#"exec 3<>"/dev/tcp/127.0.0.1/$1" &&
        printf 'GET %s HTTP/1.0\r\n\r\n' "$0" >&3 && exec timeout 5 cat <&3"#;
    let response = namespace.run("bash", &["-c", GET, path, &port.to_string()])?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .with_context(|| format!("{path}: not HTTP: {response:?}"))?;
    let status = head.split_whitespace().nth(1);
    ensure!(status == Some("200"), "{path}: {response}");
    Ok(body.to_owned())
}

/// The whole response to a request for a path over TLS, with a bearer token if one is given. The
/// certificate is not verified.
///
/// # Errors
/// When the process does not answer.
pub fn get_over_tls(namespace: &Namespace, path: &str, token: Option<&str>) -> Result<String> {
    const GET: &str = r#"printf 'GET %s HTTP/1.0\r\n%s\r\n' "$0" "$1" |
        timeout 10 openssl s_client -quiet -connect 127.0.0.1:7472 2>/dev/null"#;
    let header = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let response = namespace.run("bash", &["-c", GET, path, &header.unwrap_or_default()])?;
    ensure!(response.starts_with("HTTP/1."), "{path}: {response:?}");
    Ok(response)
}

/// The value of a series, written with its labels as in the text format: `name{label="value"}`.
///
/// # Errors
/// When the process does not answer or has no such series.
pub fn value(namespace: &Namespace, series: &str) -> Result<f64> {
    value_in(&get(namespace, "/metrics")?, series)
}

/// The value of a series in the body of `/metrics`.
pub(crate) fn value_in(text: &str, series: &str) -> Result<f64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no {series} in: {text}"))?;
    Ok(value.parse()?)
}
