//! Many sessions at once: memory, kill latency, list latency. The load comes from light clients in this process, and
//! the target is a small server in this process too, because a thousand OpenSSH clients would measure themselves.

use crate::bastion::{arm_token, whole_list};
use crate::world::{Ravelin, key, private_kib, public};
use crate::{Bound, Report, millis, percentile};
use anyhow::{Context, Result, bail};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::server::{Auth, ChannelOpenHandle, Msg, Session as ServerSession, VerifiedPublicKey};
use russh::{Channel, ChannelId, Pty, client, server};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A target that lets everybody in, answers a shell with a prompt, and sends without end when told `flood`.
struct Target;

impl server::Handler for Target {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut ServerSession,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut ServerSession,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut ServerSession) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        session.data(channel, "$ ")
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut ServerSession,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        let handle = session.handle();
        tokio::spawn(async move {
            let zeros = vec![0_u8; 32_768];
            while handle.data(channel, zeros.clone()).await.is_ok() {}
        });
        Ok(())
    }
}

pub(crate) struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// A live session's client side.
pub(crate) struct Live {
    handle: client::Handle<Client>,
    pub(crate) channel: Channel<client::Msg>,
}

pub(crate) struct Crowd {
    pub(crate) ravelin: Ravelin,
    key: Arc<russh::keys::PrivateKey>,
    pub(crate) http: reqwest::Client,
    _dir: tempfile::TempDir,
}

impl Crowd {
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let host = key(dir.path(), "host")?;
        let port = target(&host).await?;
        Self::in_folder(dir, port, &host)
    }

    /// Before whatever listens on this port.
    pub(crate) fn before(port: u16) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let host = key(dir.path(), "host")?;
        Self::in_folder(dir, port, &host)
    }

    fn in_folder(dir: tempfile::TempDir, port: u16, host: &Path) -> Result<Self> {
        let user = key(dir.path(), "user")?;
        let ravelin = Ravelin::start(dir.path(), port, &public(host)?, "root", &user)?;
        let key = Arc::new(load_secret_key(&user, None)?);
        Ok(Crowd { ravelin, key, http: reqwest::Client::new(), _dir: dir })
    }

    /// A connection without a session yet, as `alice` or as `alice:target`.
    pub(crate) async fn log_in(&self, user: &str) -> Result<client::Handle<Client>> {
        let config = Arc::new(client::Config { nodelay: true, inactivity_timeout: None, ..client::Config::default() });
        let address = ("127.0.0.1", self.ravelin.server.port);
        let mut handle = client::connect(config, address, Client).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        if !handle.authenticate_publickey(user, key).await?.success() {
            bail!("the bench's own key was refused");
        }
        Ok(handle)
    }

    async fn connect(&self, command: Option<&str>) -> Result<Live> {
        let handle = self.log_in("alice:web-1").await?;
        let mut channel = handle.channel_open_session().await?;
        match command {
            None => {
                channel.request_pty(false, "xterm", 80, 24, 0, 0, &[]).await?;
                channel.request_shell(true).await?;
            }
            Some(command) => channel.exec(true, command).await?,
        }
        loop {
            let message = channel.wait().await.context("the channel closed before its first byte")?;
            if let russh::ChannelMsg::Data { .. } = message {
                return Ok(Live { handle, channel });
            }
        }
    }

    pub(crate) async fn connect_many(&self, count: usize) -> Result<Vec<Live>> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let batch = (count - all.len()).min(8);
            let mut waiting = Vec::new();
            for _ in 0..batch {
                waiting.push(self.connect(None));
            }
            for live in futures_join(waiting).await {
                all.push(live?);
            }
        }
        Ok(all)
    }

    async fn live_ids(&self) -> Result<Vec<String>> {
        let answer = self.get("/api/v1/sessions?state=live&limit=1000").await?;
        let items = answer["items"].as_array().context("items")?;
        Ok(items.iter().filter_map(|s| s["id"].as_str().map(str::to_owned)).collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let request = self.http.get(format!("{}{path}", self.ravelin.http)).bearer_auth(&self.ravelin.token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Milliseconds from the request to the answer that both sockets are closed.
    async fn terminate(&self, id: &str) -> Result<f64> {
        let url = format!("{}/api/v1/sessions/{id}/terminate", self.ravelin.http);
        let begun = Instant::now();
        let request = self.http.post(url).bearer_auth(&self.ravelin.token).json(&json!({ "reason": "bench" }));
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let elapsed = millis(begun.elapsed());
        if answer["outcome"] != "ended" {
            bail!("not ended: {answer}");
        }
        Ok(elapsed)
    }
}

/// All of them at once, in order; a handful, so no more than a vector of tasks is needed.
pub(crate) async fn futures_join<T, F: Future<Output = T>>(waiting: Vec<F>) -> Vec<T> {
    let mut waiting: Vec<_> = waiting.into_iter().map(Box::pin).map(Some).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (slot, result) in waiting.iter_mut().zip(&mut done) {
            if let Some(future) = slot
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
                *slot = None;
            }
        }
        if waiting.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

async fn target(host: &Path) -> Result<u16> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let config = Arc::new(server::Config {
        keys: vec![load_secret_key(host, None)?],
        inactivity_timeout: None,
        auth_rejection_time: Duration::ZERO,
        nodelay: true,
        ..server::Config::default()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                if let Ok(running) = server::run_stream(config, stream, Target).await {
                    let _ended = running.await;
                }
            });
        }
    });
    Ok(port)
}

/// Private memory per idle session, and how much comes back.
pub(crate) async fn memory(report: &mut Report) -> Result<()> {
    const SESSIONS: usize = 500;
    let crowd = Crowd::start().await?;
    let pid = crowd.ravelin.server.pid();
    // A first session pays for what is set up once.
    drop(crowd.connect(None).await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = private_kib(pid)?;
    let all = crowd.connect_many(SESSIONS).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let held = private_kib(pid)?;
    let per_session = (held - before) / SESSIONS as f64;
    report.add("memory per idle session", per_session, "KiB", Some((Bound::AtMost, 128.0)));
    drop(all);
    let begun = Instant::now();
    while !crowd.live_ids().await?.is_empty() && begun.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_secs(45)).await;
    let after = private_kib(pid)?;
    let back = (held - after) / (held - before);
    report.add("share of a burst's memory back within a minute", back, "", Some((Bound::AtLeast, 0.5)));
    Ok(())
}

/// From the request to both sockets closed, with 500 live sessions, and for stalled transfers.
pub(crate) async fn kill(report: &mut Report) -> Result<()> {
    const LIVE: usize = 500;
    const KILLS: usize = 200;
    const STALLED: usize = 50;
    let crowd = Crowd::start().await?;
    let mut all = crowd.connect_many(LIVE).await?;
    let mut idle = Vec::new();
    for _ in 0..KILLS {
        let id = crowd.live_ids().await?.into_iter().next().context("a live session")?;
        idle.push(crowd.terminate(&id).await?);
        all.push(crowd.connect(None).await?);
    }
    report.add("kill of an idle session among 500, p50", percentile(&mut idle, 0.5), "ms", Some((Bound::AtMost, 5.0)));
    report.add(
        "kill of an idle session among 500, p99",
        percentile(&mut idle, 0.99),
        "ms",
        Some((Bound::AtMost, 20.0)),
    );
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let before = crowd.live_ids().await?;
        // Nobody reads this channel any more: windows and buffers fill up, and the transfer stalls.
        let flood = crowd.connect(Some("flood")).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = crowd.live_ids().await?;
        let id = now.into_iter().find(|id| !before.contains(id)).context("the stalled session")?;
        stalled.push(crowd.terminate(&id).await?);
        drop(flood);
    }
    report.add("kill of a stalled transfer, p50", percentile(&mut stalled, 0.5), "ms", Some((Bound::AtMost, 5.0)));
    report.add("kill of a stalled transfer, p99", percentile(&mut stalled, 0.99), "ms", Some((Bound::AtMost, 20.0)));
    for live in &all {
        // Keeps the compiler from ending them early.
        let _still_here = (&live.handle, &live.channel);
    }
    Ok(())
}

/// The whole list of 1,000 live sessions in each dialect.
pub(crate) async fn list(report: &mut Report) -> Result<()> {
    const LIVE: usize = 1_000;
    const TIMES: usize = 200;
    let crowd = Crowd::start().await?;
    let all = crowd.connect_many(LIVE).await?;
    let goal = Some((Bound::AtMost, 25.0));
    let mut native = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        let request = crowd.http.get(format!("{}/api/v1/sessions?state=live&limit=1000", crowd.ravelin.http));
        let answer = request.bearer_auth(&crowd.ravelin.token).send().await?.error_for_status()?.bytes().await?;
        // What the client makes of it costs the client.
        native.push(millis(begun.elapsed()));
        let count = parsed(&answer)?["items"].as_array().context("items")?.len();
        if count != LIVE {
            bail!("{count} of {LIVE} are listed");
        }
    }
    report.add("list of 1,000 live, own API, p50", percentile(&mut native, 0.5), "ms", None);
    report.add("list of 1,000 live, own API, p99", percentile(&mut native, 0.99), "ms", goal);

    let mut aws = Vec::new();
    for _ in 0..TIMES {
        let mut spent = Duration::ZERO;
        let mut count = 0;
        let mut next: Option<String> = None;
        loop {
            let mut body = json!({ "State": "Active", "MaxResults": 200 });
            if let Some(token) = next {
                body["NextToken"] = json!(token);
            }
            let begun = Instant::now();
            let answer = signed(&crowd, &body.to_string()).await?;
            spent += begun.elapsed();
            let answer = parsed(&answer)?;
            count += answer["Sessions"].as_array().context("Sessions")?.len();
            next = answer["NextToken"].as_str().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        aws.push(millis(spent));
        if count != LIVE {
            bail!("{count} of {LIVE} are listed");
        }
    }
    report.add("list of 1,000 live, AWS dialect in 5 pages, p99", percentile(&mut aws, 0.99), "ms", goal);

    let token = arm_token(&crowd.http, &crowd.ravelin).await?;
    let mut azure = Vec::new();
    for _ in 0..TIMES {
        let (ids, _, spent) = whole_list(&crowd, &token).await?;
        azure.push(millis(spent));
        if ids.len() != LIVE {
            bail!("{} of {LIVE} are listed", ids.len());
        }
    }
    report.add("list of 1,000 live, Azure dialect, p99", percentile(&mut azure, 0.99), "ms", goal);
    drop(all);
    Ok(())
}

fn parsed(answer: &[u8]) -> Result<Value> {
    Ok(serde_json::from_slice(answer)?)
}

async fn signed(crowd: &Crowd, body: &str) -> Result<bytes::Bytes> {
    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4;
    let identity = Credentials::new(&crowd.ravelin.aws.0, &crowd.ravelin.aws.1, None, None, "bench").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("ssm")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "AmazonSSM.DescribeSessions")];
    let url = format!("{}/", crowd.ravelin.http);
    let signable = SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))?;
    let (instructions, _signature) = sign(signable, &params)?.into_parts();
    let mut request = http::Request::builder().method("POST").uri(&url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut request = request.body(body.to_owned())?;
    instructions.apply_to_request_http1x(&mut request);
    let answer = crowd.http.execute(request.try_into()?).await?.error_for_status()?;
    Ok(answer.bytes().await?)
}
