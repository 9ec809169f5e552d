//! Requests to the own API, and what is said when they fail.

use super::failure::{Exit, Failure};
use super::{Globals, Token};
use ravelin_native::wire;
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time until the bastion takes the connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest time for an answer, beside what the request itself asks the bastion to wait.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest silence of an event stream; the bastion beats every 15 s.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A client of one bastion.
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    token: Token,
    ca: Option<PathBuf>,
}

impl Client {
    pub(crate) fn new(globals: &Globals) -> Result<Self, Failure> {
        let url = url(globals.url.as_deref())?;
        let Some(token) = globals.token.clone().filter(|Token(token)| !token.expose_secret().is_empty()) else {
            return Err(Failure::new(Exit::Denied, "no token was given; set RAVELIN_TOKEN").hint(TOKEN_HINT));
        };
        if url.scheme() == "http" && !is_loopback(&url) {
            super::screen::note("warning: the token travels in clear text; use an https address");
        }
        let ca = ca_file(globals.ca.as_ref());
        let http = http_client(&url, ca.as_deref())?;
        Ok(Client { http, url, token, ca })
    }

    /// The bastion's address; there is no secret in it.
    pub(crate) fn place(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Asks for something.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(String, String)],
    ) -> Result<T, Failure> {
        let request = self.request(Method::GET, path).query(query).timeout(ANSWER_MAX);
        self.answer(request).await
    }

    /// Asks for something to be done. `wait` is how long the bastion itself was asked to take.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).json(body).timeout(ANSWER_MAX + wait);
        self.answer(request).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.answer(self.request(Method::DELETE, path).timeout(ANSWER_MAX)).await
    }

    /// All sessions that match, page after page, at most `most`; and whether more would have followed.
    pub(crate) async fn sessions(
        &self,
        filter: &wire::SessionFilter,
        order: &str,
        most: usize,
    ) -> Result<(Vec<wire::Session>, bool), Failure> {
        const PAGE: usize = 500;
        let filter = pairs(filter);
        let mut found = Vec::new();
        let mut cursor = None;
        while found.len() < most {
            let limit = u32::try_from((most - found.len()).min(PAGE)).unwrap_or(u32::MAX);
            let page = wire::ListPage { order: Some(order.to_owned()), limit: Some(limit), cursor };
            let query: Vec<_> = filter.iter().cloned().chain(pairs(&page)).collect();
            let page: wire::SessionPage = self.get(&["sessions"], &query).await?;
            found.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok((found, false)),
            }
        }
        Ok((found, true))
    }

    /// Opens an answer of any length.
    pub(crate) async fn stream(&self, path: &[&str], query: &[(String, String)]) -> Result<Response, Failure> {
        let request = self.request(Method::GET, path).query(query);
        let opened = tokio::time::timeout(ANSWER_MAX, self.send(request)).await;
        opened.unwrap_or_else(|_elapsed| Err(self.unreachable("it does not answer in time")))
    }

    /// The next piece of it; `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, Failure> {
        response.chunk().await.map_err(|error| Failure::other(format!("the answer broke off: {}", causes(&error))))
    }

    /// Opens the event stream after `cursor`, or now.
    pub(crate) async fn events(&self, cursor: Option<u64>, snapshot: bool) -> Result<Response, Failure> {
        let mut request = self.request(Method::GET, &["events"]);
        if snapshot {
            request = request.query(&[("snapshot", "true")]);
        }
        if let Some(cursor) = cursor {
            request = request.query(&[("cursor", cursor)]);
        }
        let opened = tokio::time::timeout(ANSWER_MAX, self.send(request)).await;
        opened.unwrap_or_else(|_elapsed| Err(self.unreachable("it does not answer in time")))
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.url.clone();
        // Each segment is encoded, so an id cannot lead to another path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        self.http.request(method, url).bearer_auth(self.token.0.expose_secret())
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.not_reached(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::other(format!("the answer of {} cannot be read: {error}", self.url))
                .hint("is it a Ravelin of this version? compare `ravelin --version` on both sides")
        })
    }

    /// The answer, when it is a good one.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.not_reached(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<wire::Problem>(&body) {
            Ok(problem) => Err(refused(problem)),
            Err(_) => Err(self.no_ravelin(status)),
        }
    }

    /// An answer that no Ravelin gives.
    fn no_ravelin(&self, status: StatusCode) -> Failure {
        Failure::new(Exit::Unreachable, format!("{} answers {status}, and not as a Ravelin does", self.url))
            .hint("check RAVELIN_URL: it is the address of the bastion's HTTPS listener, without a path")
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::new(Exit::Unreachable, format!("no bastion at {}: {why}", self.url))
            .hint("check RAVELIN_URL, and that the bastion runs; to try one out: ravelin dev")
    }

    fn not_reached(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            // The one part of a request that can be unfit is the token in its header.
            return Failure::new(Exit::Denied, "the token holds characters that no token has").hint(TOKEN_HINT);
        }
        match not_trusted(&self.url, self.ca.as_deref(), error) {
            Some(failure) => failure,
            None => self.unreachable(&why_not_reached(error)),
        }
    }
}

/// The file with certificates to trust, if one is named.
pub(crate) fn ca_file(given: Option<&OsString>) -> Option<PathBuf> {
    given.filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What requests to `url` are made with: no redirects, and the certificates of `ca` in place of the system's.
pub(crate) fn http_client(url: &Url, ca: Option<&Path>) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("ravelin/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // A tunnel is an upgrade, which HTTP/2 has none of; a dependency's features must not bring it about.
        .http1_only()
        .connect_timeout(CONNECT_MAX);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // Without TLS nobody's certificates are needed, so a machine without any will do.
        builder = builder.tls_certs_only([]);
    } else if let Some(path) = ca {
        builder = builder.tls_certs_only(certificates(path)?);
    }
    builder.build().map_err(|error| {
        Failure::other(format!("cannot set up TLS: {}", causes(&error)))
            .hint("set SSL_CERT_FILE to a file with the certificates to trust")
    })
}

/// What to say when it was the certificate that stood in the way.
pub(crate) fn not_trusted(url: &Url, ca: Option<&Path>, error: &reqwest::Error) -> Option<Failure> {
    let why = certificate_fault(error)?;
    let failure = Failure::new(Exit::Unreachable, format!("the certificate of {url} is not trusted: {why}"));
    Some(match ca {
        Some(ca) => failure.hint(format!(
            "SSL_CERT_FILE (or --ca) names {}; it must hold the certificate of the bastion's CA",
            ca.display()
        )),
        None => failure
            .hint("set SSL_CERT_FILE (or --ca) to the file with the certificate of the bastion's CA")
            .hint("for ravelin dev: source the dev.env that it wrote"),
    })
}

/// Why a certificate was refused, if that is what went wrong.
pub(crate) fn certificate_fault(error: &(dyn Error + 'static)) -> Option<String> {
    match tls(error) {
        Some(rustls::Error::InvalidCertificate(why)) => Some(untrusted(why)),
        _ => None,
    }
}

/// Why there was no answer, other than for a certificate.
pub(crate) fn why_not_reached(error: &reqwest::Error) -> String {
    if let Some(rustls::Error::InvalidMessage(_)) = tls(error) {
        return "what is there does not speak TLS; for a plain HTTP listener: http://…".to_owned();
    }
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    causes(error)
}

const TOKEN_HINT: &str = "the token comes from --token or RAVELIN_TOKEN; an operator issues one: ravelin credentials issue \
    --kind token --user NAME; for ravelin dev: source the dev.env that it wrote";

fn url(given: Option<&str>) -> Result<Url, Failure> {
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        return Err(Failure::usage("no bastion was named; set RAVELIN_URL or give --url")
            .hint("to try one out: run `ravelin dev` and source the dev.env that it writes"));
    };
    let unfit = |why: &str| {
        Failure::usage(format!("{text:?} is no address of a bastion: {why}")).hint("write it as https://bastion:8443")
    };
    let url = Url::parse(text).map_err(|error| unfit(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(unfit("it must start with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(unfit("it must be a scheme, a host and a port"));
    }
    Ok(url)
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let unfit = |why: String| {
        Failure::usage(format!("cannot use the certificates in {}: {why}", path.display()))
            .hint("SSL_CERT_FILE (or --ca) must name a readable file with certificates in PEM form")
    };
    let pem = std::fs::read(path).map_err(|error| unfit(error.to_string()))?;
    let all = Certificate::from_pem_bundle(&pem).map_err(|error| unfit(causes(&error)))?;
    if all.is_empty() { Err(unfit("there is none in it".to_owned())) } else { Ok(all) }
}

/// What the bastion said instead of an answer.
fn refused(problem: wire::Problem) -> Failure {
    let exit = match problem.status {
        401 | 403 => Exit::Denied,
        _ => match problem.code.as_ref() {
            "invalid" | "malformed" => Exit::Usage,
            "count_changed" => Exit::NotAllEnded,
            _ => Exit::Other,
        },
    };
    let mut failure = Failure::new(exit, problem.detail);
    failure.missing = problem.code == "not_found";
    match problem.status {
        401 => failure.hint(TOKEN_HINT),
        403 => failure.hint("who you are to the bastion: ravelin whoami; its policies say what you may do"),
        429 | 503 => failure.hint("try again in a moment"),
        500 => failure.hint("the bastion's log says more"),
        _ => failure,
    }
}

/// What went wrong in TLS, if that is where it went wrong.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An I/O error hides what it wraps from `source`.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// Why a certificate is not accepted, in the words of those who issue them.
fn untrusted(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError;
    match why {
        CertificateError::UnknownIssuer => "nobody whom this machine trusts issued it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is this machine's clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it was issued for another name ({why})")
        }
        other => other.to_string(),
    }
}

/// The innermost cause, which is the one that people know.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// The members of a flat wire type as parameters; a list gives one for each of its values.
pub(crate) fn pairs(value: &impl Serialize) -> Vec<(String, String)> {
    let Ok(Value::Object(members)) = serde_json::to_value(value) else { return Vec::new() };
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let mut pairs = Vec::new();
    for (name, value) in members {
        match value {
            Value::Array(values) => pairs.extend(values.into_iter().map(|value| (name.clone(), text(value)))),
            Value::Null => {}
            other => pairs.push((name, text(other))),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_parameters() {
        let filter = wire::SessionFilter {
            state: vec!["live".to_owned(), "failed".to_owned()],
            target: Some("web-1".to_owned()),
            ..wire::SessionFilter::default()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs(&filter), [pair("state", "live"), pair("state", "failed"), pair("target", "web-1")]);
        let page = wire::ListPage { limit: Some(5), ..wire::ListPage::default() };
        assert_eq!(pairs(&page), [pair("limit", "5")]);
    }

    #[test]
    fn addresses_are_checked_before_a_token_is_sent() {
        assert!(url(Some("https://bastion:8443")).is_ok());
        assert!(url(Some("http://127.0.0.1:8080/")).is_ok());
        for bad in
            ["", "bastion:8443", "bastion", "ftp://bastion", "https://user@bastion", "https://bastion?x=1", "https://"]
        {
            let failure = url(Some(bad)).expect_err(bad);
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!failure.hints.is_empty());
        }
        for (text, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&url(Some(text)).expect("an address")), loopback, "{text}");
        }
    }

    #[test]
    fn refusals_have_their_status_and_a_next_step() {
        let problem = |status, code: &'static str| wire::Problem {
            kind: String::new(),
            title: String::new(),
            status,
            detail: "because".to_owned(),
            code: code.into(),
            field: None,
            matching: None,
        };
        for (status, code, exit) in [
            (400, "invalid", Exit::Usage),
            (401, "unauthenticated", Exit::Denied),
            (403, "denied", Exit::Denied),
            (404, "not_found", Exit::Other),
            (409, "count_changed", Exit::NotAllEnded),
            (503, "unavailable", Exit::Other),
        ] {
            assert_eq!(refused(problem(status, code)).exit, exit, "{code}");
        }
        assert!(refused(problem(401, "unauthenticated")).hints[0].contains("ravelin credentials issue"));
    }
}
