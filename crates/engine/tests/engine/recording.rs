//! What a session does whose recording cannot begin, breaks, or gets stuck; and that one that works is put on record.

use async_trait::async_trait;
use bytes::Bytes;
use ravelin_engine::control::Reader;
use ravelin_engine::gate::{Admission, Ask};
use ravelin_engine::leg::Leg;
use ravelin_engine::recording::{Outlets, Setup};
use ravelin_engine::relay::{Broken as SinkBroken, Flow, Sink, Source, Stopped, Unit};
use ravelin_engine::testkit::{FakeLeg, PolicyFn, principal, rules, target};
use ravelin_engine::{Caller, Config, Contact, Engine, MasterKey};
use ravelin_model::audit::AuditKind;
use ravelin_model::ports::{Archive, Outlet, Reading, Recorder, Store, Tape};
use ravelin_model::recording::{
    Broken, Form, Head, Kept, LogKind, LogPlace, Mode, Note, Purpose, Request, Rule, Terminal, What, WhenBroken,
};
use ravelin_model::session::{EndReason, Kind, Recording};
use ravelin_model::{Login, NodeId, Principal, Refusal, Session, SessionId};
use ravelin_store::SqliteStore;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEY: &str = "ssh-ed25519 ALICE";

/// How a recorder misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Begin,
    Write,
    Stuck,
}

struct FakeRecorder {
    fault: Fault,
    shown: Arc<Mutex<Vec<u8>>>,
}

struct FakeTape {
    fault: Fault,
    head: Head,
    shown: Arc<Mutex<Vec<u8>>>,
}

#[async_trait]
impl Recorder for FakeRecorder {
    async fn begin(&self, head: Head) -> Result<Box<dyn Tape>, Broken> {
        match self.fault {
            Fault::Begin => Err(Broken::new("no space left")),
            fault => Ok(Box::new(FakeTape { fault, head, shown: Arc::clone(&self.shown) })),
        }
    }

    async fn recover(&self) -> Vec<(SessionId, Result<Kept, Broken>)> {
        Vec::new()
    }

    async fn settle(&self, _session: &SessionId) -> Result<(), Broken> {
        Ok(())
    }

    async fn read(&self, _session: &SessionId, _request: Request) -> Result<Box<dyn Reading>, Refusal> {
        Ok(Box::new(Nothing))
    }

    async fn remove(&self, _session: &SessionId) -> Result<(), Broken> {
        Ok(())
    }
}

struct Nothing;

#[async_trait]
impl Reading for Nothing {
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        Ok(None)
    }
}

#[async_trait]
impl Tape for FakeTape {
    async fn write(&mut self, notes: Vec<Note>) -> Result<(), Broken> {
        match self.fault {
            Fault::Write => return Err(Broken::new("no space left")),
            Fault::Stuck => std::future::pending().await,
            Fault::None | Fault::Begin => {}
        }
        for note in notes {
            if let What::Data { flow: Flow::Out, bytes } = note.what {
                self.shown.lock().expect("not poisoned").extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Kept, Broken> {
        let (head, lasted) = (self.head, Duration::ZERO);
        Ok(Kept { head, digest: "ab".repeat(32), bytes: 1, lasted, acts: Vec::new() })
    }
}

/// A target that says something again and again.
struct Chatter;

impl Source for Chatter {
    async fn next(&mut self) -> Option<Unit> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Some(Unit::Data(Bytes::from_static(b"chatter")))
    }
}

struct Drain;

impl Sink for Drain {
    async fn put(&mut self, _unit: Unit) -> Result<(), SinkBroken> {
        Ok(())
    }
}

struct World {
    engine: Engine,
    store: Arc<SqliteStore>,
    shown: Arc<Mutex<Vec<u8>>>,
}

async fn world(fault: Fault, when_broken: WhenBroken) -> World {
    world_by(fault, Rule { mode: Mode::Full, when_broken, ..Rule::default() }, Outlets::new()).await
}

async fn world_by(fault: Fault, rule: Rule, outlets: Outlets) -> World {
    let store = Arc::new(SqliteStore::in_memory().expect("a store in memory"));
    let alice = Principal { ssh_keys: vec![KEY.to_owned()], ..principal("alice", &["web"]) };
    let mut web = target("web-1", "127.0.0.1", 1, &["web"]);
    web.recording = rule;
    let rules = rules(vec![alice], vec![web], Arc::new(PolicyFn(|_: &ravelin_model::policy::Question<'_>| Some(true))));
    let shown = Arc::default();
    let setup = Setup {
        recorder: Arc::new(FakeRecorder { fault, shown: Arc::clone(&shown) }),
        archive: Arc::clone(&store) as Arc<dyn ravelin_model::ports::Archive>,
        keep: Duration::from_secs(60),
        keep_by_class: BTreeMap::new(),
        outlets,
    };
    let engine = Engine::start_recording(
        Arc::clone(&store) as Arc<dyn Store>,
        rules,
        MasterKey::new([7; 32]),
        Config::new(NodeId::new(1)),
        Some(setup),
    );
    World { engine: engine.await.expect("the engine starts"), store, shown }
}

impl World {
    /// Waits until no session's output is due anywhere; whoever asks afterwards sees whether that came about.
    async fn all_logs_are_out(&self) {
        for _ in 0..1_000 {
            if self.store.logs_waiting().await == Ok(0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn caller(&self) -> Caller {
        let contact = Contact { address: SocketAddr::from(([192, 0, 2, 7], 4711)), software: "test".to_owned() };
        self.engine.identity.ssh_key("alice", KEY, contact).await.expect("a known key")
    }

    async fn open(&self, client: &Arc<FakeLeg>) -> Admission {
        self.open_logged(client, Vec::new()).await.expect("admitted")
    }

    async fn open_logged(&self, client: &Arc<FakeLeg>, logs: Vec<LogPlace>) -> Result<Admission, Refusal> {
        let caller = self.caller().await;
        let ask = Ask {
            target: self.engine.gate.find(&caller, "web-1").expect("a target"),
            login: Some(Login::parse("root").expect("a login")),
            kind: Kind::Shell,
            document: None,
            reason: None,
            logs,
            client: Arc::clone(client) as Arc<dyn Leg>,
        };
        let admission = self.engine.gate.admit(&caller, ask).await?;
        admission.connected().await.expect("connected");
        Ok(admission)
    }

    /// Waits until the session's recording is as wanted.
    async fn recording(&self, id: &SessionId, wanted: Recording) {
        for _ in 0..1_000 {
            let row = self.store.session(id).await.expect("readable").expect("a row");
            if row.recording == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the recording of {id} is not {wanted}");
    }
}

fn shell() -> Purpose {
    Purpose::Shell { terminal: Some(Terminal { name: "xterm".to_owned(), columns: 80, rows: 24 }) }
}

#[tokio::test]
async fn a_session_that_must_be_recorded_ends_when_it_cannot_be() {
    for fault in [Fault::Begin, Fault::Write, Fault::Stuck] {
        let world = world(fault, WhenBroken::End).await;
        let client = FakeLeg::new();
        let admission = world.open(&client).await;
        let id = admission.session().clone();
        let begun = std::time::Instant::now();
        let relay = admission.relay().channel(shell()).await;
        assert_eq!(relay.is_over(), fault == Fault::Begin, "nothing runs where nothing can be recorded");
        assert_eq!(relay.pump(Flow::Out, &mut Chatter, &mut Drain).await, Stopped::Ended, "{fault:?}");
        // The promise is 10 s; a busy machine may need longer to let us look.
        assert!(begun.elapsed() < Duration::from_secs(30), "{fault:?} took {:?}", begun.elapsed());
        assert_eq!(admission.end(EndReason::TargetClosed, "").await.reason, EndReason::RecordingFailed);
        assert_eq!(client.said(), ["disconnected: the recording failed"]);
        world.recording(&id, Recording::Failed).await;
        assert_eq!(world.engine.recordings_failed(), 1);
    }
}

#[tokio::test]
async fn a_session_that_may_go_on_goes_on_and_its_row_says_so() {
    for fault in [Fault::Begin, Fault::Write] {
        let world = world(fault, WhenBroken::GoOn).await;
        let client = FakeLeg::new();
        let admission = world.open(&client).await;
        let id = admission.session().clone();
        let relay = admission.relay().channel(shell()).await;
        let (mut from, mut to) = (Chatter, Drain);
        let pumping = relay.pump(Flow::Out, &mut from, &mut to);
        let failed = world.recording(&id, Recording::Failed);
        tokio::select! {
            stopped = pumping => panic!("{fault:?}: it stopped: {stopped:?}"),
            () = failed => {}
        }
        assert!(!relay.is_over(), "{fault:?}");
        assert_eq!(admission.end(EndReason::TargetClosed, "").await.reason, EndReason::TargetClosed);
    }
}

#[tokio::test]
async fn what_passed_is_on_the_tape_and_its_end_and_its_readers_on_record() {
    let world = world(Fault::None, WhenBroken::End).await;
    let client = FakeLeg::new();
    let admission = world.open(&client).await;
    let id = admission.session().clone();
    let relay = admission.relay().channel(shell()).await;
    let watched = Request { form: Form::Cast, from: Duration::ZERO, channel: None, follow: true };
    let caller = world.caller().await;
    let control = &world.engine.control;
    control.read_recording(&caller, &id, Reader::Watch, watched).await.expect("permitted");
    assert_eq!(client.said(), ["alice is watching this session"]);
    let _ended =
        tokio::time::timeout(Duration::from_millis(300), relay.pump(Flow::Out, &mut Chatter, &mut Drain)).await;
    drop(relay);
    admission.end(EndReason::ClientClosed, "").await;
    world.recording(&id, Recording::Complete).await;
    let row = world.store.session(&id).await.expect("readable").expect("a row");
    assert_eq!(row.recording_digest, Some("ab".repeat(32)));
    assert!(world.shown.lock().expect("not poisoned").starts_with(b"chatterchatter"));
    let over = control.read_recording(&caller, &id, Reader::Watch, watched).await.err().expect("it is over");
    assert!(matches!(over, Refusal::Conflict { .. }), "{over:?}");
    let played = Request { follow: false, ..watched };
    control.read_recording(&caller, &id, Reader::Play, played).await.expect("permitted");
    let events = world.store.events(0, 100).await.expect("a record").events;
    let kept = events.iter().find(|event| event.deed.kind == AuditKind::RecordingKept).expect("its end");
    assert_eq!(kept.deed.facts["recording_digest"], "ab".repeat(32));
    for kind in [AuditKind::RecordingBegan, AuditKind::SessionWatched, AuditKind::RecordingPlayed] {
        let event = events.iter().find(|event| event.deed.kind == kind).expect("on record");
        assert_eq!(event.deed.actor.to_string(), "alice", "{kind}");
    }
}

/// A place that refuses some times before it takes something.
#[derive(Default)]
struct FakeOutlet {
    refusals: Mutex<u32>,
    taken: Mutex<Vec<String>>,
}

#[async_trait]
impl Outlet for FakeOutlet {
    async fn put(&self, place: &LogPlace, of: &Session, output: &mut dyn Reading) -> Result<(), Broken> {
        assert_eq!(output.next().await, Ok(None));
        assert!(place.streams || (of.ended().is_some() && of.recording == Recording::Complete));
        let mut refusals = self.refusals.lock().expect("not poisoned");
        if *refusals > 0 {
            *refusals -= 1;
            return Err(Broken::new("away"));
        }
        self.taken.lock().expect("not poisoned").push(place.name(&of.draft.id));
        Ok(())
    }

    fn destination(&self) -> String {
        "memory".to_owned()
    }

    async fn probe(&self) -> Result<(), Broken> {
        Ok(())
    }
}

fn place(kind: LogKind, holder: &str) -> LogPlace {
    LogPlace { kind, holder: holder.to_owned(), prefix: "a".to_owned(), url: String::new(), streams: false }
}

#[tokio::test]
async fn output_that_is_wanted_somewhere_is_recorded_whatever_the_rule_and_gets_there_at_last() {
    let (good, bad) = (Arc::new(FakeOutlet::default()), Arc::new(FakeOutlet::default()));
    *bad.refusals.lock().expect("not poisoned") = 2;
    let outlets = Outlets::from([
        ((LogKind::Object, "good".to_owned()), Arc::clone(&good) as Arc<dyn Outlet>),
        ((LogKind::Stream, "bad".to_owned()), Arc::clone(&bad) as Arc<dyn Outlet>),
    ]);
    let world = world_by(Fault::None, Rule::default(), outlets).await;
    let unknown = world.open_logged(&FakeLeg::new(), vec![place(LogKind::Object, "bad")]).await;
    assert!(matches!(unknown.err(), Some(Refusal::Unavailable { .. })), "nobody takes it");
    let places = vec![place(LogKind::Object, "good"), place(LogKind::Stream, "bad")];
    let admission = world.open_logged(&FakeLeg::new(), places.clone()).await.expect("admitted");
    let id = admission.session().clone();
    let relay = admission.relay().channel(Purpose::Exec { command: "make".to_owned(), terminal: None }).await;
    let _ended =
        tokio::time::timeout(Duration::from_millis(100), relay.pump(Flow::Out, &mut Chatter, &mut Drain)).await;
    drop(relay);
    admission.end(EndReason::ClientClosed, "").await;
    world.all_logs_are_out().await;
    assert_eq!(world.store.logs_waiting().await, Ok(0));
    assert!(world.shown.lock().expect("not poisoned").starts_with(b"chatter"));
    assert_eq!(*good.taken.lock().expect("not poisoned"), [places[0].name(&id)], "once, although the other failed");
    assert_eq!(*bad.taken.lock().expect("not poisoned"), [places[1].name(&id)]);
    let row = world.store.session(&id).await.expect("readable").expect("a row");
    assert_eq!((row.draft.recording_rule, row.draft.logs), (Some(Mode::Full), places));
}

#[tokio::test]
async fn lines_that_are_wanted_as_they_come_are_sent_while_the_session_lives_and_looked_after_once_it_is_over() {
    let outlet = Arc::new(FakeOutlet::default());
    *outlet.refusals.lock().expect("not poisoned") = 1;
    let taken = || outlet.taken.lock().expect("not poisoned").len();
    let outlets = Outlets::from([((LogKind::Stream, "lines".to_owned()), Arc::clone(&outlet) as Arc<dyn Outlet>)]);
    let world = world_by(Fault::None, Rule::default(), outlets).await;
    let place = LogPlace { streams: true, ..place(LogKind::Stream, "lines") };
    let admission = world.open_logged(&FakeLeg::new(), vec![place]).await.expect("admitted");
    let relay = admission.relay().channel(shell()).await;
    for _ in 0..1_000 {
        if taken() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((taken(), world.store.logs_waiting().await), (1, Ok(1)), "sent, and still due");
    drop(relay);
    admission.end(EndReason::ClientClosed, "").await;
    world.all_logs_are_out().await;
    assert_eq!((taken(), world.store.logs_waiting().await), (2, Ok(0)));
}

#[tokio::test]
async fn a_session_whose_output_is_wanted_ends_when_it_cannot_be_recorded_whatever_the_rule() {
    let outlets =
        Outlets::from([((LogKind::Object, "good".to_owned()), Arc::new(FakeOutlet::default()) as Arc<dyn Outlet>)]);
    let rule = Rule { mode: Mode::Full, when_broken: WhenBroken::GoOn, ..Rule::default() };
    let world = world_by(Fault::Begin, rule, outlets).await;
    let admission = world.open_logged(&FakeLeg::new(), vec![place(LogKind::Object, "good")]).await.expect("admitted");
    let relay = admission.relay().channel(shell()).await;
    assert!(relay.is_over());
    assert_eq!(admission.end(EndReason::TargetClosed, "").await.reason, EndReason::RecordingFailed);
}
