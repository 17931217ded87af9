//! Which requests are answered: those of a page of this server, opened on this host. A foreign page
//! in the same browser could otherwise send requests here (CSRF), or read answers under a name that
//! it lets point to this host (DNS rebinding).

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

/// The only path that is not read by GET. It changes nothing either.
pub(super) const WHAT_IF: &str = "/what-if";

/// The content type of its requests. A form can't send it, so a browser asks before it sends it to
/// another origin.
const JSON: &str = "application/json";

/// What the answers allow the page: scripts, styles, images and connections of this server only,
/// and no text as HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// The names under which this server is reached.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    hosts: [String; 2],
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// What was found, and what is expected.
    pub message: String,
}

impl Guard {
    /// For a server on this port.
    pub(super) fn new(port: u16) -> Self {
        Self {
            hosts: ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}")),
        }
    }

    /// The address for the browser.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.hosts[0])
    }

    /// Checks a request, before anything else is done with it.
    ///
    /// # Errors
    /// Why it is not answered.
    pub(super) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let host = headers.get(header::HOST);
        let authority = uri.authority().map(|authority| authority.as_str());
        if !self.is_own(host) || !authority.is_none_or(|name| self.hosts.contains(&name.into())) {
            let message = format!("this server is {} only", self.url());
            return Err(refusal(StatusCode::MISDIRECTED_REQUEST, message));
        }
        let origin = headers.get(header::ORIGIN);
        if origin.is_some() && !self.is_own_origin(origin) {
            let message = format!("a page of another origin can't use {}", self.url());
            return Err(refusal(StatusCode::FORBIDDEN, message));
        }
        match *method {
            Method::GET => Ok(()),
            Method::POST if uri.path() == WHAT_IF => self.check_post(origin, headers),
            _ => {
                let message = format!("only GET, and POST of {WHAT_IF}");
                Err(refusal(StatusCode::METHOD_NOT_ALLOWED, message))
            }
        }
    }

    fn check_post(&self, origin: Option<&HeaderValue>, headers: &HeaderMap) -> Result<(), Refusal> {
        if !self.is_own_origin(origin) {
            let message = "a POST needs the Origin of this server".to_owned();
            return Err(refusal(StatusCode::FORBIDDEN, message));
        }
        let kind = headers.get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != JSON) {
            let message = format!("the content type must be {JSON}");
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        Ok(())
    }

    fn is_own(&self, host: Option<&HeaderValue>) -> bool {
        host.is_some_and(|host| self.hosts.iter().any(|own| host == own.as_str()))
    }

    fn is_own_origin(&self, origin: Option<&HeaderValue>) -> bool {
        let mut own = self.hosts.iter().map(|host| format!("http://{host}"));
        origin.is_some_and(|origin| own.any(|own| origin == own.as_str()))
    }
}

fn refusal(status: StatusCode, message: String) -> Refusal {
    Refusal { status, message }
}

/// Adds the headers that every answer has.
pub(super) fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(name, HeaderValue::from_static("same-origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let uri = path.parse().expect("a path");
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (header::HeaderName::from_static(name), value)
        });
        let headers = headers.collect();
        let checked = Guard::new(8420).check(&method, &uri, &headers);
        checked.err().map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn only_the_own_names_with_the_port_are_served() {
        let get = |host: &str| check(Method::GET, "/", &[("host", host)]);
        assert_eq!(get("127.0.0.1:8420"), None);
        assert_eq!(get("localhost:8420"), None);
        for host in [
            "rebound.example.com:8420",
            "127.0.0.1",
            "127.0.0.1:8421",
            "127.0.0.1:8420.example.com",
            "localhost:8420@example.com",
            "",
        ] {
            assert_eq!(get(host), Some(421), "{host}");
        }
        assert_eq!(check(Method::GET, "/", &[]), Some(421));
        let own = [("host", "localhost:8420")];
        assert_eq!(check(Method::GET, "http://example.com/", &own), Some(421));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let get = |origin: &str| {
            let headers = [("host", "127.0.0.1:8420"), ("origin", origin)];
            check(Method::GET, "/events", &headers)
        };
        assert_eq!(get("http://127.0.0.1:8420"), None);
        assert_eq!(get("http://localhost:8420"), None);
        for origin in ["http://example.com", "https://127.0.0.1:8420", "null"] {
            assert_eq!(get(origin), Some(403), "{origin}");
        }
    }

    #[test]
    fn nothing_is_posted_but_the_what_if_of_the_own_page() {
        let host = ("host", "127.0.0.1:8420");
        let origin = ("origin", "http://127.0.0.1:8420");
        let json = ("content-type", "application/json");
        let post = |path: &str, headers: &[_]| check(Method::POST, path, headers);
        assert_eq!(post(WHAT_IF, &[host, origin, json]), None);
        assert_eq!(post(WHAT_IF, &[host, json]), Some(403), "no Origin");
        assert_eq!(post(WHAT_IF, &[host, origin]), Some(415));
        let form = ("content-type", "text/plain");
        assert_eq!(post(WHAT_IF, &[host, origin, form]), Some(415));
        assert_eq!(post("/", &[host, origin, json]), Some(405));
        for method in [
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
            Method::HEAD,
        ] {
            assert_eq!(check(method, WHAT_IF, &[host, origin, json]), Some(405));
        }
    }
}
