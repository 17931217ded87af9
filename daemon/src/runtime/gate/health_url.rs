//! The address at which a service proxy answers whether it is ready: an `http` URL.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

const FORM: &str = "expected http://HOST:PORT/PATH, such as http://127.0.0.1:10256/livez \
    (kube-proxy) or http://127.0.0.1:9879/healthz (Cilium)";

/// An `http` URL with a host and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthUrl {
    /// The host with its port.
    authority: String,
    path: String,
}

impl HealthUrl {
    /// `HOST:PORT`, an IPv6 address in brackets.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path with the query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The health check of a service on this port of a node.
    pub(crate) fn of_service(address: std::net::IpAddr, port: u16) -> Self {
        Self {
            authority: std::net::SocketAddr::new(address, port).to_string(),
            path: "/healthz".to_owned(),
        }
    }
}

impl fmt::Display for HealthUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl FromStr for HealthUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}: {FORM}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("not an http URL: {FORM}"));
        }
        let authority = uri
            .authority()
            .filter(|authority| !authority.host().is_empty());
        let Some(authority) = authority.filter(|authority| !authority.as_str().contains('@'))
        else {
            return Err(format!("no host, or a user: {FORM}"));
        };
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") | None => 80,
            Some(port) => {
                let port = port.trim_start_matches(':').parse::<u16>();
                port.map_err(|error| format!("port: {error}: {FORM}"))?
            }
        };
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_url_is_read_and_shown_as_it_is_asked() {
        for (text, shown) in [
            (
                "http://127.0.0.1:10256/livez",
                "http://127.0.0.1:10256/livez",
            ),
            (
                "http://[::1]:9879/healthz?x=y",
                "http://[::1]:9879/healthz?x=y",
            ),
            ("http://localhost", "http://localhost:80/"),
        ] {
            let url: HealthUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
        }
        let address = "2001:db8::1".parse().expect("an address");
        let url = HealthUrl::of_service(address, 30_001);
        assert_eq!(url.to_string(), "http://[2001:db8::1]:30001/healthz");
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "127.0.0.1:10256",
            "https://127.0.0.1:10256/livez",
            "/livez",
            "http:///livez",
            "http://user@127.0.0.1/",
            "http://127.0.0.1:99999/livez",
            "",
        ] {
            let error = text.parse::<HealthUrl>().expect_err(text);
            assert!(error.contains("http://127.0.0.1:10256/livez"), "{error}");
        }
    }
}
