//! Recordings: watched, played, taken away, searched, held. Each by a right of its own, each time on record.

use super::show_session::session_id;
use crate::refusal::Fault;
use crate::request::{self, Params, Segment, number, once, unknown};
use crate::server::Proof;
use crate::{map, wire};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use ravelin_engine::control::Reader;
use ravelin_engine::{Caller, Control, Identity};
use ravelin_model::ports::Reading;
use ravelin_model::recording::{Form, Request, Search};
use ravelin_model::{PrincipalName, Refusal, SessionId, TargetName};
use secrecy::SecretString;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Acts of one answer.
const ACTS_MAX: u32 = 5_000;
/// Found acts of an answer unless the client says otherwise.
const FOUND_DEFAULT: u32 = 50;
/// How often who watches has to be who they were.
const RECHECK: Duration = Duration::from_secs(5);

/// Watch a live session
///
/// asciicast v2, line by line: first the screen of the moment, then what happens, as it happens. The person may be told.
#[utoipa::path(
    get,
    path = "/sessions/{id}/live",
    tag = "recordings",
    params(
        ("id" = String, Path, description = "The full id."),
        ("channel" = Option<u32>, Query, description = "Which channel; the first with a terminal unless given.")
    ),
    responses(
        (status = 200, body = String, content_type = "application/x-asciicast"),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn watch_session(
    State(control): State<Control>,
    State(identity): State<Identity>,
    Extension(caller): Extension<Caller>,
    Extension(Proof(token)): Extension<Proof>,
    Segment(id): Segment,
    Params(params): Params,
) -> Result<Response, Fault> {
    let mut channel = None;
    for (name, value) in params {
        match name.as_str() {
            "channel" => once(&mut channel, "channel", number("channel", &value)?)?,
            other => return Err(unknown(other, &["channel"]).into()),
        }
    }
    let id = session_id("id", &id)?;
    let request = Request { form: Form::Cast, from: Duration::ZERO, channel, follow: true };
    let reading = control.read_recording(&caller, &id, Reader::Watch, request).await?;
    let watcher = Watcher { reading, control, identity, token, caller, id, checked: Instant::now() };
    let pieces = stream::unfold(Some(watcher), async |watcher| {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(watcher))),
            Ok(None) => None,
            Err(refusal) => Some((Err(broken(&refusal)), None)),
        }
    });
    Ok(answer(Form::Cast, None, Body::from_stream(pieces)))
}

/// Somebody who watches. Their right is asked for again while they do.
struct Watcher {
    reading: Box<dyn Reading>,
    control: Control,
    identity: Identity,
    token: SecretString,
    caller: Caller,
    id: SessionId,
    checked: Instant,
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Self { reading, control, identity, token, caller, id, checked } = self;
        let mut next = pin!(reading.next());
        loop {
            if checked.elapsed() >= RECHECK {
                *caller = identity.token(token, caller.contact().clone()).await?;
                control.still_watches(caller, id).await?;
                *checked = Instant::now();
            }
            tokio::select! {
                piece = &mut next => return piece,
                () = tokio::time::sleep(RECHECK) => {}
            }
        }
    }
}

/// Play a recording
///
/// asciicast v2 from any moment on; the screen of that moment comes first.
#[utoipa::path(
    get,
    path = "/sessions/{id}/playback",
    tag = "recordings",
    params(
        ("id" = String, Path, description = "The full id."),
        ("from_ms" = Option<u64>, Query, description = "The moment, since the recording began; 0 unless given."),
        ("channel" = Option<u32>, Query, description = "Which channel; the first with a terminal unless given.")
    ),
    responses(
        (status = 200, body = String, content_type = "application/x-asciicast"),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn play_recording(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Params(params): Params,
) -> Result<Response, Fault> {
    let (mut from, mut channel) = (None, None);
    for (name, value) in params {
        match name.as_str() {
            "from_ms" => once(&mut from, "from_ms", number("from_ms", &value)?)?,
            "channel" => once(&mut channel, "channel", number("channel", &value)?)?,
            other => return Err(unknown(other, &["from_ms", "channel"]).into()),
        }
    }
    let from = Duration::from_millis(from.unwrap_or(0));
    let request = Request { form: Form::Cast, from, channel, follow: false };
    let reading = control.read_recording(&caller, &session_id("id", &id)?, Reader::Play, request).await?;
    whole(Form::Cast, None, reading).await
}

/// Take a recording away
///
/// As asciicast v2 or v3, as text, as a page that plays it without anything from elsewhere, or as all its events.
#[utoipa::path(
    get,
    path = "/sessions/{id}/export",
    tag = "recordings",
    params(
        ("id" = String, Path, description = "The full id."),
        ("form" = Option<String>, Query, description = "cast (default), cast3, text, html, lines or events."),
        ("channel" = Option<u32>, Query, description = "Which channel; the first with a terminal unless given.")
    ),
    responses(
        (status = 200, body = String, content_type = "application/x-asciicast"),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn export_recording(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Params(params): Params,
) -> Result<Response, Fault> {
    let (mut form, mut channel) = (None, None);
    for (name, value) in params {
        match name.as_str() {
            "form" => {
                let parsed = Form::from_word(&value)
                    .ok_or_else(|| Refusal::invalid("form", "must be one of cast, cast3, text, html, lines, events"))?;
                once(&mut form, "form", parsed)?;
            }
            "channel" => once(&mut channel, "channel", number("channel", &value)?)?,
            other => return Err(unknown(other, &["form", "channel"]).into()),
        }
    }
    let (id, form) = (session_id("id", &id)?, form.unwrap_or(Form::Cast));
    let request = Request { form, from: Duration::ZERO, channel, follow: false };
    let reading = control.read_recording(&caller, &id, Reader::Export, request).await?;
    whole(form, Some(&id), reading).await
}

/// What was done in a session
///
/// At most 5000 acts of it in one answer.
#[utoipa::path(
    get,
    path = "/sessions/{id}/acts",
    tag = "recordings",
    params(
        ("id" = String, Path, description = "The full id."),
        ("skip" = Option<u32>, Query, description = "How many of the first acts to leave out; 0 unless given.")
    ),
    responses(
        (status = 200, body = wire::Acts),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list_acts(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Params(params): Params,
) -> Result<Json<wire::Acts>, Fault> {
    let mut skip = None;
    for (name, value) in params {
        match name.as_str() {
            "skip" => once(&mut skip, "skip", number("skip", &value)?)?,
            other => return Err(unknown(other, &["skip"]).into()),
        }
    }
    let id = session_id("id", &id)?;
    let (acts, more, entry) = control.acts(&caller, &id, skip.unwrap_or(0), ACTS_MAX).await?;
    let items = acts.into_iter().map(map::act).collect();
    Ok(Json(wire::Acts { items, more, recording: entry.map(map::entry) }))
}

/// Search in what was done
///
/// Every word of `text` must be there; `*` at the end of a word stands for more letters. The newest come first.
#[utoipa::path(
    get,
    path = "/recordings/search",
    tag = "recordings",
    params(
        ("text" = String, Query, description = "The words."),
        ("principal" = Option<String>, Query, description = "In sessions of this principal only."),
        ("target" = Option<String>, Query, description = "In sessions to the target of this name only."),
        ("from" = Option<String>, Query, description = "At this time or later."),
        ("before" = Option<String>, Query, description = "Before this time."),
        ("limit" = Option<u32>, Query, description = "At most this many, 1 to 1000; 50 unless given.")
    ),
    responses(
        (status = 200, body = wire::FoundActs),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn search_recordings(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Params(params): Params,
) -> Result<Json<wire::FoundActs>, Fault> {
    let (mut text, mut principal, mut target, mut from, mut before, mut limit) = (None, None, None, None, None, None);
    for (name, value) in params {
        match name.as_str() {
            "text" => once(&mut text, "text", value)?,
            "principal" => {
                let parsed = PrincipalName::parse(&value);
                let parsed = parsed.map_err(|invalid| Refusal::invalid("principal", invalid.because))?;
                once(&mut principal, "principal", parsed)?;
            }
            "target" => {
                let parsed = TargetName::parse(&value);
                let parsed = parsed.map_err(|invalid| Refusal::invalid("target", invalid.because))?;
                once(&mut target, "target", parsed)?;
            }
            "from" => once(&mut from, "from", map::time("from", &value)?)?,
            "before" => once(&mut before, "before", map::time("before", &value)?)?,
            "limit" => once(&mut limit, "limit", number("limit", &value)?)?,
            other => {
                return Err(unknown(other, &["text", "principal", "target", "from", "before", "limit"]).into());
            }
        }
    }
    let limit = limit.unwrap_or(FOUND_DEFAULT);
    let search = Search { text: text.unwrap_or_default(), principal, target, from, before, limit };
    let found = control.search_recordings(&caller, search).await?;
    Ok(Json(wire::FoundActs { items: found.into_iter().map(map::found).collect() }))
}

/// Hold a recording
///
/// Whatever its time, it is not removed until it is given free.
#[utoipa::path(
    post,
    path = "/sessions/{id}/hold",
    tag = "recordings",
    params(("id" = String, Path, description = "The full id.")),
    request_body(content = Option<wire::Hold>),
    responses(
        (status = 200, body = wire::RecordingEntry),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn hold_recording(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    params: Params,
    request::Json(wish): request::Json<wire::Hold>,
) -> Result<Json<wire::RecordingEntry>, Fault> {
    params.none()?;
    let reason = wish.reason.unwrap_or_default();
    let entry = control.hold_recording(&caller, &session_id("id", &id)?, Some(&reason)).await?;
    Ok(Json(map::entry(entry)))
}

/// Give a recording free
#[utoipa::path(
    post,
    path = "/sessions/{id}/release",
    tag = "recordings",
    params(("id" = String, Path, description = "The full id.")),
    responses(
        (status = 200, body = wire::RecordingEntry),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn release_recording(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<wire::RecordingEntry>, Fault> {
    params.none()?;
    Ok(Json(map::entry(control.hold_recording(&caller, &session_id("id", &id)?, None).await?)))
}

/// The whole of a reading. Its first piece is read before the answer begins, so that what cannot be read is refused in
/// words; a later fault breaks the answer off, and no client takes it for whole.
async fn whole(form: Form, id: Option<&SessionId>, mut reading: Box<dyn Reading>) -> Result<Response, Fault> {
    let first = reading.next().await?;
    let pieces = stream::unfold((first, Some(reading)), async |(first, reading)| {
        if let Some(first) = first {
            return Some((Ok(first), (None, reading)));
        }
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), (None, Some(reading)))),
            Ok(None) => None,
            Err(refusal) => Some((Err(broken(&refusal)), (None, None))),
        }
    });
    Ok(answer(form, id, Body::from_stream(pieces)))
}

fn broken(refusal: &Refusal) -> std::io::Error {
    tracing::error!(?refusal, "a recording could not be read to its end");
    std::io::Error::other("the recording could not be read to its end")
}

fn answer(form: Form, id: Option<&SessionId>, body: Body) -> Response {
    let (kind, suffix) = match form {
        Form::Cast | Form::Cast3 => ("application/x-asciicast", "cast"),
        Form::Text => ("text/plain; charset=utf-8", "txt"),
        Form::Html => ("text/html; charset=utf-8", "html"),
        Form::Lines | Form::Events => ("application/x-ndjson", "ndjson"),
    };
    let head = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store, no-transform")];
    match id {
        // Never shown in place: a page made of strangers' bytes does not run where this API's tokens are used.
        Some(id) => {
            (head, [(CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.{suffix}\""))], body).into_response()
        }
        None => (head, [("x-accel-buffering", "no")], body).into_response(),
    }
}
