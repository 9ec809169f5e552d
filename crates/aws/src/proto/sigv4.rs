//! Signature Version 4, the verifying side: what a request claims, whether the claim may stand, and what its signature
//! must be.
//!
//! Three steps, in this order. [`Claim::read`] takes the claim out of the request and writes its canonical form;
//! [`Claim::check`] holds it against the clock and the terms; [`Claim::signature`] computes what the right secret gives.
//! The first two never see a secret, and none of them compares: that is done in constant time where the secret lives.
//!
//! Derived signing keys are not kept: the chain of four HMACs costs less than the look-up that would save it is worth.
//!
//! Source: "Create a signed AWS API request" and "Signature Version 4 request elements", AWS IAM User Guide, read
//! 2026-11; AWS's signing test suite is run against this file by `tests/signing_suite.rs`.

use aws_lc_rs::{digest, hmac};
use ravelin_model::Time;
use std::fmt::Write as _;
use std::time::Duration;
use zeroize::Zeroizing;

/// The only algorithm that is spoken.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Longest lifetime of a presigned request, in seconds.
pub const EXPIRES_SECONDS_MAX: u32 = 604_800;
/// Most names in a list of signed headers.
pub const SIGNED_HEADERS_MAX: usize = 64;
const TERMINATOR: &str = "aws4_request";
const TOKEN_HEADER: &str = "x-amz-security-token";
const TOKEN_PARAMETER: &str = "X-Amz-Security-Token";
/// Which line of the canonical request holds its query.
const QUERY_LINE: usize = 2;

/// A request as it came, with nothing decoded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `POST`.
    pub method: &'a str,
    /// The path, still percent-encoded.
    pub path: &'a str,
    /// The query without its question mark, still percent-encoded; empty when there is none.
    pub query: &'a str,
    /// Header names in lower case with their values, in the order of arrival; a name may stand several times.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// What a claim must satisfy.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The service in the scope.
    pub service: &'a str,
    /// The regions that the scope may name; `None` accepts any.
    pub regions: Option<&'a [String]>,
    /// How far the signer's clock may be off, either way.
    pub skew_max: Duration,
}

/// Why a signature is not looked at any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The request claims nothing.
    #[error("Request is missing Authentication Token")]
    Missing,
    /// The claim cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The claim can be read and may not stand.
    #[error("{0}")]
    Refused(String),
}

/// The parts of an `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Access key id.
    pub key_id: &'a str,
    /// `yyyymmdd` of the scope.
    pub date: &'a str,
    /// Region of the scope.
    pub region: &'a str,
    /// Service of the scope.
    pub service: &'a str,
    /// Last part of the scope.
    pub terminator: &'a str,
    /// Names of the signed headers, as listed.
    pub signed_headers: Vec<&'a str>,
    /// 64 lower-case hex digits.
    pub signature: &'a str,
}

/// What a request says of itself, with everything that its signature covers but the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    key_id: String,
    region: String,
    service: String,
    terminator: String,
    scope_date: String,
    stamp: Stamp,
    expires: Option<Duration>,
    signature: String,
    unsigned: Option<String>,
    session_token: Option<Vec<u8>>,
    declared_body: Option<Vec<u8>>,
    canonical_head: Vec<u8>,
}

impl std::fmt::Debug for Claim {
    /// Without the session token, which the canonical form holds as well.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key_id, region, service, stamp, .. } = self;
        let mut out = f.debug_struct("Claim");
        out.field("key_id", key_id).field("region", region).field("service", service).field("stamp", stamp);
        out.finish_non_exhaustive()
    }
}

/// The time of signing, in both forms.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    text: String,
    time: Time,
}

impl Claim {
    /// Reads the claim, in its header form or else in its query form.
    ///
    /// # Errors
    /// [`Fault::Missing`] when there is none, [`Fault::Malformed`] when it cannot be read, [`Fault::Refused`] when it
    /// signs a header that is not there.
    pub fn read(request: &Request<'_>) -> Result<Self, Fault> {
        let presigned = query_pairs(request.query).any(|(name, _)| name == "X-Amz-Signature");
        match (one_header(request, "authorization")?, presigned) {
            (Some(_), true) => {
                Err(malformed("a request is signed either by its 'Authorization' header or by its query"))
            }
            (Some(value), false) => Self::read_header(request, &value),
            (None, true) => Self::read_query(request),
            (None, false) => Err(Fault::Missing),
        }
    }

    fn read_header(request: &Request<'_>, value: &[u8]) -> Result<Self, Fault> {
        let value = std::str::from_utf8(value).map_err(|_utf8| malformed("Authorization header must be ASCII text"))?;
        let authorization = parse_authorization(value)?;
        let (name, text) = match one_header(request, "x-amz-date")? {
            Some(text) => ("x-amz-date", text),
            None => match one_header(request, "date")? {
                Some(text) => ("date", text),
                None => {
                    return Err(malformed(
                        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header",
                    ));
                }
            },
        };
        let stamp = std::str::from_utf8(&text).ok().and_then(Stamp::parse).ok_or_else(|| {
            malformed(&format!("Date must be in ISO-8601 'basic format'. Got '{}'", String::from_utf8_lossy(&text)))
        })?;
        let token = one_header(request, TOKEN_HEADER)?;
        Self::build(request, &authorization, stamp, None, token, Some(name))
    }

    fn read_query(request: &Request<'_>) -> Result<Self, Fault> {
        let one = |wanted: &str| {
            let mut found = query_pairs(request.query).filter(|(name, _)| name == wanted).map(|(_, value)| value);
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => Err(malformed(&format!("query parameter '{wanted}' stands twice"))),
                (value, _) => Ok(value),
            }
        };
        let required = |name: &str| {
            one(name)?.ok_or_else(|| malformed(&format!("AWS query-string parameters must include '{name}'")))
        };
        let algorithm = required("X-Amz-Algorithm")?;
        if algorithm != ALGORITHM {
            return Err(malformed(&format!("Unsupported AWS 'algorithm': '{algorithm}'")));
        }
        let credential = required("X-Amz-Credential")?;
        let signed_headers = required("X-Amz-SignedHeaders")?;
        let signature = required("X-Amz-Signature")?;
        let date = required("X-Amz-Date")?;
        let stamp = Stamp::parse_basic(&date)
            .ok_or_else(|| malformed(&format!("X-Amz-Date must be in ISO-8601 'basic format'. Got '{date}'")))?;
        let expires = required("X-Amz-Expires")?;
        let seconds = expires.parse::<u32>().ok().filter(|seconds| (1..=EXPIRES_SECONDS_MAX).contains(seconds));
        let seconds = seconds.ok_or_else(|| {
            malformed(&format!("X-Amz-Expires must be a number of seconds from 1 to {EXPIRES_SECONDS_MAX}"))
        })?;
        let token = match (one(TOKEN_PARAMETER)?, one_header(request, TOKEN_HEADER)?) {
            (Some(_), Some(_)) => return Err(malformed("a session token stands either in the query or in a header")),
            (Some(in_query), None) => Some(in_query.into_bytes()),
            (None, in_header) => in_header,
        };
        let authorization = authorization(&credential, &signed_headers, &signature)?;
        let expires = Duration::from_secs(u64::from(seconds));
        Self::build(request, &authorization, stamp, Some(expires), token, None)
    }

    fn build(
        request: &Request<'_>,
        authorization: &Authorization<'_>,
        stamp: Stamp,
        expires: Option<Duration>,
        session_token: Option<Vec<u8>>,
        date_header: Option<&str>,
    ) -> Result<Self, Fault> {
        let signed = &authorization.signed_headers;
        let is_signed = |name: &str| signed.contains(&name);
        // Whatever could change what the request means must be covered: where it goes, when it was made, and all
        // headers of AWS's own.
        let unsigned = ["host"]
            .into_iter()
            .chain(date_header)
            .chain(request.headers.iter().map(|(name, _)| *name).filter(|name| name.starts_with("x-amz-")))
            .find(|name| !is_signed(name))
            .map(str::to_owned);
        Ok(Self {
            key_id: authorization.key_id.to_owned(),
            region: authorization.region.to_owned(),
            service: authorization.service.to_owned(),
            terminator: authorization.terminator.to_owned(),
            scope_date: authorization.date.to_owned(),
            stamp,
            expires,
            signature: authorization.signature.to_owned(),
            unsigned,
            session_token,
            declared_body: one_header(request, "x-amz-content-sha256")?,
            canonical_head: canonical_head(request, signed)?,
        })
    }

    /// Access key id. Nobody has proved anything by naming it.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Region that the scope names.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The signature that came with the request: 64 lower-case hex digits.
    #[must_use]
    pub fn presented(&self) -> &str {
        &self.signature
    }

    /// The session token that came along. It is covered by the signature: a query is as a whole, and a header of AWS's
    /// own has to be.
    #[must_use]
    pub fn session_token(&self) -> Option<&[u8]> {
        self.session_token.as_deref()
    }

    /// Holds the claim against the clock and the terms.
    ///
    /// # Errors
    /// [`Fault::Refused`], in the words that AWS uses for it.
    pub fn check(&self, now: Time, terms: &Terms<'_>) -> Result<(), Fault> {
        let refuse = |because: String| Err(Fault::Refused(because));
        if self.terminator != TERMINATOR {
            return refuse(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'.",
                self.terminator
            ));
        }
        if self.service != terms.service {
            return refuse(format!("Credential should be scoped to correct service: '{}'.", terms.service));
        }
        if terms.regions.is_some_and(|regions| !regions.contains(&self.region)) {
            return refuse(format!("Credential should be scoped to a valid region, not '{}'.", self.region));
        }
        if !self.stamp.text.starts_with(&self.scope_date) {
            return refuse(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', \
                 from '{}'.",
                self.scope_date,
                &self.stamp.text[..DATE_CHARS],
                self.stamp.text
            ));
        }
        if let Some(name) = &self.unsigned {
            return refuse(if name == "host" {
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned()
            } else {
                format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")
            });
        }
        self.check_time(now, terms.skew_max)
    }

    fn check_time(&self, now: Time, skew_max: Duration) -> Result<(), Fault> {
        let minutes = skew_max.as_secs() / 60;
        let (signed, earliest, latest) = (self.stamp.time, now.minus(skew_max), now.plus(skew_max));
        if signed > latest {
            return Err(Fault::Refused(format!(
                "Signature not yet current: {} is still later than {} ({} + {minutes} min.)",
                self.stamp.text,
                basic(latest),
                basic(now)
            )));
        }
        match self.expires {
            None if signed < earliest => Err(Fault::Refused(format!(
                "Signature expired: {} is now earlier than {} ({} - {minutes} min.)",
                self.stamp.text,
                basic(earliest),
                basic(now)
            ))),
            Some(expires) if signed.plus(expires) < now => Err(Fault::Refused(format!(
                "Signature expired: {} is now earlier than {}",
                basic(signed.plus(expires)),
                basic(now)
            ))),
            None | Some(_) => Ok(()),
        }
    }

    /// Whether the body is the one that the request declares, if it declares one.
    ///
    /// # Errors
    /// [`Fault::Refused`]. `UNSIGNED-PAYLOAD` is refused as well: here the body is always covered.
    pub fn check_body(&self, body_sha256: &str) -> Result<(), Fault> {
        match &self.declared_body {
            Some(declared) if declared != body_sha256.as_bytes() => Err(Fault::Refused(
                "The provided 'x-amz-content-sha256' header does not match what was computed.".to_owned(),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The signature that this secret gives for this claim and body, as 64 lower-case hex digits.
    #[must_use]
    pub fn signature(&self, secret: &str, body_sha256: &str) -> String {
        let mut canonical = digest::Context::new(&digest::SHA256);
        canonical.update(&self.canonical_head);
        canonical.update(body_sha256.as_bytes());
        let Self { scope_date, region, service, .. } = self;
        let to_sign = format!(
            "{ALGORITHM}\n{}\n{scope_date}/{region}/{service}/{TERMINATOR}\n{}",
            self.stamp.text,
            hex(canonical.finish().as_ref())
        );
        let start = Zeroizing::new(format!("AWS4{secret}"));
        let by_date = chain(start.as_bytes(), scope_date);
        let by_region = chain(by_date.as_ref(), region);
        let by_service = chain(by_region.as_ref(), service);
        let key = chain(by_service.as_ref(), TERMINATOR);
        hex(chain(key.as_ref(), &to_sign).as_ref())
    }

    /// The canonical request up to the body's digest, for a log that explains a mismatch: without the session token.
    #[must_use]
    pub fn canonical_for_log(&self) -> String {
        const HIDDEN: &str = "(hidden)";
        let head = String::from_utf8_lossy(&self.canonical_head);
        let line = |(at, line): (usize, &str)| match line.split_once(':') {
            Some((TOKEN_HEADER, _)) => format!("{TOKEN_HEADER}:{HIDDEN}"),
            _ if at == QUERY_LINE => {
                let pair = |pair: &str| match pair.split_once('=') {
                    Some((TOKEN_PARAMETER, _)) => format!("{TOKEN_PARAMETER}={HIDDEN}"),
                    _ => pair.to_owned(),
                };
                line.split('&').map(pair).collect::<Vec<_>>().join("&")
            }
            _ => line.to_owned(),
        };
        head.split('\n').enumerate().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// SHA-256 of a body as 64 lower-case hex digits.
#[must_use]
pub fn body_sha256(body: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, body).as_ref())
}

/// Takes an `Authorization` header apart. Strict in what it holds (three parameters, each once, nothing else),
/// tolerant of blanks around the commas.
///
/// # Errors
/// [`Fault::Malformed`] names what is missing or wrong.
pub fn parse_authorization(value: &str) -> Result<Authorization<'_>, Fault> {
    let value = value.trim_matches([' ', '\t']);
    let (algorithm, rest) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    if algorithm != ALGORITHM {
        let shown: String = algorithm.chars().take(32).collect();
        return Err(malformed(&format!("Unsupported AWS 'algorithm': '{shown}'")));
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in rest.split(',').map(|part| part.trim_matches([' ', '\t'])) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(malformed("Authorization header must be key=value pairs, separated by commas"));
        };
        let place = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => {
                return Err(malformed(
                    "Authorization header holds a parameter other than Credential, SignedHeaders and Signature",
                ));
            }
        };
        if place.replace(value).is_some() {
            return Err(malformed(&format!("Authorization header holds '{name}' twice")));
        }
    }
    let mut missing = String::new();
    for (name, value) in [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed_headers)] {
        if value.is_none_or(str::is_empty) {
            let blank = if missing.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = write!(missing, "{blank}Authorization header requires '{name}' parameter.");
        }
    }
    match (credential, signed_headers, signature) {
        (Some(credential), Some(signed_headers), Some(signature)) if missing.is_empty() => {
            authorization(credential, signed_headers, signature)
        }
        _ => Err(Fault::Malformed(missing)),
    }
}

fn authorization<'a>(
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
) -> Result<Authorization<'a>, Fault> {
    let parts: Vec<&str> = credential.split('/').collect();
    let [key_id, date, region, service, terminator] = parts[..] else {
        return Err(malformed(
            "Credential must have exactly 5 slash-delimited elements: keyid/date/region/service/term",
        ));
    };
    if [key_id, region, service].iter().any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(malformed("Credential must name a key, a region and a service"));
    }
    if date.len() != DATE_CHARS || !date.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed("date in Credential must have the form yyyymmdd"));
    }
    let signed_headers: Vec<&str> = signed_headers.split(';').collect();
    if signed_headers.len() > SIGNED_HEADERS_MAX {
        return Err(malformed(&format!("SignedHeaders must have at most {SIGNED_HEADERS_MAX} names")));
    }
    let in_order = signed_headers.windows(2).all(|pair| pair[0] < pair[1]);
    if !in_order || !signed_headers.iter().all(|name| is_lower_token(name)) {
        return Err(malformed("SignedHeaders must be header names in lower case, sorted, each once, separated by ';'"));
    }
    if signature.len() != 64 || !signature.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(malformed("Signature must be 64 lower-case hexadecimal digits"));
    }
    Ok(Authorization { key_id, date, region, service, terminator, signed_headers, signature })
}

fn is_lower_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The canonical request without its last line, the body's digest.
fn canonical_head(request: &Request<'_>, signed_headers: &[&str]) -> Result<Vec<u8>, Fault> {
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(request.method.as_bytes());
    head.push(b'\n');
    head.extend_from_slice(canonical_path(request.path).as_bytes());
    head.push(b'\n');
    head.extend_from_slice(canonical_query(request.query).as_bytes());
    head.push(b'\n');
    for name in signed_headers {
        head.extend_from_slice(name.as_bytes());
        let mut before = b':';
        for (_, value) in request.headers.iter().filter(|(present, _)| present == name) {
            head.push(before);
            head.extend_from_slice(&canonical_value(value));
            before = b',';
        }
        if before == b':' {
            return Err(Fault::Refused(format!("signed header '{name}' is not in the request")));
        }
        head.push(b'\n');
    }
    head.push(b'\n');
    head.extend_from_slice(signed_headers.join(";").as_bytes());
    head.push(b'\n');
    Ok(head)
}

/// A path in its canonical form: empty and dot segments resolved, then percent-encoded once more.
#[must_use]
pub fn canonical_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &kept {
        out.push('/');
        encode(segment.as_bytes(), &mut out);
    }
    let ends_in_folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if kept.is_empty() || ends_in_folder {
        out.push('/');
    }
    out
}

/// A query in its canonical form: each name and value decoded and encoded again, sorted, without the signature.
#[must_use]
pub fn canonical_query(query: &str) -> String {
    let encoded = |text: &[u8]| {
        let mut out = String::with_capacity(text.len());
        encode(text, &mut out);
        out
    };
    let mut pairs: Vec<(String, String)> = raw_pairs(query)
        .map(|(name, value)| (decode(name), decode(value)))
        .filter(|(name, _)| name != b"X-Amz-Signature")
        .map(|(name, value)| (encoded(&name), encoded(&value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// A header's value in its canonical form: no blanks at the ends, and runs of blanks within made one.
#[must_use]
pub fn canonical_value(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for word in value.split(|b| *b == b' ').filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
    out
}

/// The one value of a header.
fn one_header(request: &Request<'_>, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let mut found = request.headers.iter().filter(|(present, _)| *present == name);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(malformed(&format!("header '{name}' stands twice"))),
        (found, _) => Ok(found.map(|(_, value)| canonical_value(value))),
    }
}

fn raw_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|piece| !piece.is_empty()).map(|piece| piece.split_once('=').unwrap_or((piece, "")))
}

/// Names and values, decoded; what is not UTF-8 cannot be a parameter of ours and is shown with its bytes replaced.
fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let text = |raw: &str| String::from_utf8_lossy(&decode(raw)).into_owned();
    raw_pairs(query).map(move |(name, value)| (text(name), text(value)))
}

fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

const DATE_CHARS: usize = "yyyymmdd".len();

impl Stamp {
    fn parse(text: &str) -> Option<Self> {
        Self::parse_basic(text).or_else(|| {
            let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
            let time = Time::from_micros(zoned.timestamp().as_microsecond());
            Some(Self { text: basic(time), time })
        })
    }

    /// `20150830T123600Z` and nothing else.
    fn parse_basic(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, digits: usize| {
            bytes[from..from + digits]
                .iter()
                .try_fold(0_i16, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i16::from(b - b'0')))
        };
        let small = |from: usize| number(from, 2).and_then(|n| i8::try_from(n).ok());
        let civil =
            jiff::civil::DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0);
        let instant = civil.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Self { text: text.to_owned(), time: Time::from_micros(instant.as_microsecond()) })
    }
}

/// A time as `20150830T123600Z`.
fn basic(time: Time) -> String {
    match jiff::Timestamp::from_microsecond(time.as_micros()) {
        Ok(instant) => instant.strftime("%Y%m%dT%H%M%SZ").to_string(),
        Err(_out_of_range) => format!("{} us since 1970", time.as_micros()),
    }
}

fn malformed(because: &str) -> Fault {
    Fault::Malformed(because.to_owned())
}

fn chain(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn blanks_after_commas_do_not_matter() {
        for separator in [",", ", ", ",  ", " , ", ",\t"] {
            let value = format!(
                "{ALGORITHM} Credential=K/20260101/eu-1/ssm/aws4_request{separator}SignedHeaders=a;host{separator}\
                 Signature={SIGNATURE}"
            );
            let parsed = parse_authorization(&value).expect("a well-formed header");
            assert_eq!((parsed.key_id, parsed.region, parsed.signed_headers), ("K", "eu-1", vec!["a", "host"]));
        }
    }

    #[test]
    fn what_is_wrong_with_a_header_is_said() {
        let whole = format!(
            "{ALGORITHM} Credential=K/20260101/eu-1/ssm/aws4_request, SignedHeaders=a;host, Signature={SIGNATURE}"
        );
        let cases = [
            ("Bearer x".to_owned(), "Unsupported AWS 'algorithm': 'Bearer'"),
            (ALGORITHM.to_owned(), "key=value"),
            (whole.replace(", Signature=", ", Other="), "parameter other than"),
            (whole.replace("SignedHeaders=", "Signature="), "'Signature' twice"),
            (whole.replace("/aws4_request", ""), "5 slash-delimited elements"),
            (whole.replace("20260101", "2026010x"), "yyyymmdd"),
            (whole.replace("a;host", "host;a"), "sorted"),
            (whole.replace("a;host", "a;A"), "lower case"),
            (whole.replace("a;host", "a;;host"), "sorted"),
            (whole.replace("=0123", "=A123"), "64 lower-case"),
            (whole.replace("=0123", "=123"), "64 lower-case"),
            (
                format!("{ALGORITHM} Credential=K/20260101/eu-1/ssm/aws4_request"),
                "requires 'Signature' parameter. Authorization",
            ),
        ];
        for (value, because) in cases {
            match parse_authorization(&value) {
                Err(Fault::Malformed(text)) => assert!(text.contains(because), "{value}: {text}"),
                other => panic!("{value}: {other:?}"),
            }
        }
    }

    #[test]
    fn dates_are_read_strictly() {
        assert!(Stamp::parse_basic("20261121T103000Z").is_some());
        for bad in
            ["20261121T103000", "20261321T103000Z", "20260230T103000Z", "2026112 T103000Z", "20261121T106000Z", ""]
        {
            assert_eq!(Stamp::parse_basic(bad), None, "{bad}");
        }
        let date = Stamp::parse("Sat, 21 Nov 2026 10:30:00 GMT").expect("the form of a Date header");
        assert_eq!(date.text, "20261121T103000Z");
    }

    #[test]
    fn paths_and_queries_have_one_form() {
        for (path, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("/..", "/"),
            ("/a/./b//c", "/a/b/c"),
            ("/a/b/..", "/a/"),
            ("/a%20b/@x", "/a%2520b/%40x"),
        ] {
            assert_eq!(canonical_path(path), canonical, "{path}");
        }
        for (query, canonical) in [
            ("", ""),
            ("b=2&a=1&a=0", "a=0&a=1&b=2"),
            ("a", "a="),
            ("a=%7e%2f&&", "a=~%2F"),
            ("a=%zz%", "a=%25zz%25"),
            ("X-Amz-Signature=x&a=b=c", "a=b%3Dc"),
        ] {
            assert_eq!(canonical_query(query), canonical, "{query}");
        }
        assert_eq!(canonical_value(b"  a   b  "), b"a b");
    }
}
