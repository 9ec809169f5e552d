//! Recordings in object stores, against what people have there: moto's S3 and Azurite's blobs. They are made in the
//! directory, moved once they are whole, and played, exported, held and removed wherever they lie.

use ravelin_e2e::{Peer, Said, Server, Sshd, binary, eventually, free_port, http_get, items, need, run};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bastion that records in full before a real sshd.
pub(crate) struct World {
    ssh: PathBuf,
    sshd: Sshd,
    pub(crate) dir: tempfile::TempDir,
    ports: [u16; 3],
    token: String,
}

impl World {
    /// With these lines under `[recordings]`. `None` where a client is missing.
    pub(crate) fn new(recordings: &str) -> Option<Self> {
        let ssh = ravelin_e2e::client("E2E_SSH")?;
        let (sshd, keygen) = (ravelin_e2e::client("E2E_SSHD")?, ravelin_e2e::client("E2E_SSH_KEYGEN")?);
        let sshd = Sshd::start(&sshd, &keygen);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        let _made =
            run(Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path("alice")));
        let key = std::fs::read_to_string(path("alice.pub")).expect("a public key");
        let ports = [free_port(), free_port(), free_port()];
        let target = |name: &str, more: &str| {
            format!(
                "[[target]]\nname = \"{name}\"\naddress = \"127.0.0.1\"\nport = {}\nprotocol = \"ssh\"\nhost_keys = [\"{}\"]\n\
                 shared_with = [\"web\"]\nlogins = [{{ name = \"{}\", key_file = \"{}\" }}]\n{more}\n",
                sshd.port,
                sshd.host_key,
                sshd.user,
                sshd.user_key.display()
            )
        };
        let config = format!(
            "[node]\nstate_dir = \"state\"\n[listen]\nssh = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n\
             [metrics]\nlisten = \"127.0.0.1:{}\"\n[recordings]\nmode = \"full\"\n{recordings}\n\
             [[recordings.classes]]\nname = \"brief\"\nkeep = \"1 s\"\n\
             [[principal]]\nname = \"alice\"\ngroups = [\"operators\", \"auditors\", \"web\"]\nssh_keys = [\"{}\"]\n{}{}{}",
            ports[0],
            ports[1],
            ports[2],
            key.trim(),
            target("web-1", ""),
            target("web-2", "record = { class = \"brief\" }"),
            target("web-3", "record = { on_failure = \"go_on\" }"),
        );
        std::fs::write(path("ravelin.toml"), config).expect("written");
        Some(Self { ssh, sshd, dir, ports, token: String::new() })
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("ravelin.toml")
    }

    fn secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("may be written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("may be closed");
    }

    fn check(&self) -> Said {
        run(Command::new(binary()).args(["check", "-c"]).arg(self.config()).current_dir(self.dir.path()))
    }

    pub(crate) fn serve(&mut self) -> Server {
        let config = self.config();
        self.serve_by(Command::new(binary()).args(["serve", "-c"]).arg(config))
    }

    /// By a command that leads there.
    pub(crate) fn serve_by(&mut self, command: &mut Command) -> Server {
        let http = SocketAddr::from(([127, 0, 0, 1], self.ports[1]));
        let server = Server::serve_by(command, self.dir.path(), http);
        if self.token.is_empty() {
            let mut bootstrap = Command::new(binary());
            bootstrap.args(["credentials", "bootstrap", "--principal", "alice", "-c"]).arg(self.config());
            self.token = run(&mut bootstrap).ok().trim().trim_start_matches("RAVELIN_TOKEN=").to_owned();
        }
        server
    }

    pub(crate) fn ravelin(&self, args: &[&str]) -> Said {
        let mut command = Command::new(binary());
        command.args(args).env("RAVELIN_TOKEN", &self.token).env("NO_COLOR", "1").env("HOME", self.dir.path());
        run(command.env("RAVELIN_URL", format!("http://127.0.0.1:{}", self.ports[1])))
    }

    /// `ssh` on a terminal of its own.
    pub(crate) fn on_terminal(&self, target: &str, command: &str) -> Command {
        let mut ssh = Command::new(&self.ssh);
        ssh.args(["-F", "none", "-q", "-tt", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]);
        ssh.arg(self.dir.path().join("alice")).args(["-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-p", &self.ports[0].to_string()]);
        ssh.args([&format!("alice:{}@{target}@127.0.0.1", self.sshd.user), command]).env_remove("SSH_AUTH_SOCK");
        ssh
    }

    /// A session with this command, and its id once its recording is complete.
    fn recorded(&self, target: &str, command: &str) -> (String, Said) {
        let said = run(&mut self.on_terminal(target, command));
        let id = eventually("its recording is complete", || {
            let history = items(&self.ravelin(&["sessions", "history", "-o", "json"]).json());
            let newest = history.first().filter(|session| session["recording"] == "complete")?;
            (newest["target"]["name"] == target).then(|| newest["id"].as_str().expect("an id").to_owned())
        });
        (id, said)
    }

    fn show(&self, id: &str) -> Value {
        self.ravelin(&["sessions", "show", id, "-o", "json"]).json()
    }

    /// The session, once its recording lies in the store.
    fn moved(&self, id: &str) -> Value {
        eventually("its recording was moved", || {
            let shown = self.show(id);
            shown["recording_place"].as_str().is_some_and(|place| place.contains("://")).then_some(shown)
        })
    }

    fn export(&self, id: &str, form: &str) -> Said {
        self.ravelin(&["sessions", "export", id, "--form", form, "--file", "-"])
    }

    pub(crate) fn figure(&self, name: &str) -> f64 {
        let answer = http_get(SocketAddr::from(([127, 0, 0, 1], self.ports[2])), "/metrics").expect("metrics");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().expect("a number")
    }

    /// Files of recordings in the directory.
    fn here(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for shelf in std::fs::read_dir(self.dir.path().join("state/recordings")).expect("a folder") {
            let shelf = shelf.expect("an entry").path();
            files.extend(std::fs::read_dir(shelf).into_iter().flatten().map_while(Result::ok).map(|file| file.path()));
        }
        files
    }
}

/// What a cast shows, as one text.
fn shown(cast: &str) -> String {
    let events = cast.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.filter(|event| event[1] == "o").map(|event| event[2].as_str().expect("a text").to_owned()).collect()
}

fn moto(program: &Path, port: u16) -> Peer {
    Peer::start(Command::new(program).args(["-H", "127.0.0.1", "-p", &port.to_string()]), port)
}

/// boto3 on moto: makes the bucket, or lists its objects with their SHA-256.
fn boto(python: &Path, port: u16, what: &str) -> String {
    let script = format!(
        "import boto3, hashlib, sys\n\
         s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:{port}', region_name='us-east-1',\n\
             aws_access_key_id='a', aws_secret_access_key='b')\n\
         if sys.argv[1] == 'make': s3.create_bucket(Bucket='kept')\n\
         else:\n    for o in s3.list_objects_v2(Bucket='kept').get('Contents', []):\n        \
         body = s3.get_object(Bucket='kept', Key=o['Key'])['Body'].read()\n        \
         print(o['Key'], hashlib.sha256(body).hexdigest(), b'needle' in body)\n"
    );
    run(Command::new(python).args(["-c", &script, what])).ok()
}

#[test]
fn recordings_are_moved_to_s3_once_it_takes_them_and_are_there_for_everything() {
    let (program, python) = (need!("E2E_MOTO"), need!("E2E_PYTHON"));
    let port = free_port();
    let store = format!(
        "store.type = \"s3\"\nstore.url = \"http://127.0.0.1:{port}\"\nstore.bucket = \"kept\"\n\
         store.region = \"us-east-1\"\nstore.prefix = \"prod\"\nstore.access_key_id = \"AKIDEXAMPLE\"\n\
         store.secret_access_key_file = \"s3.secret\""
    );
    let Some(mut world) = World::new(&store) else { return };
    world.secret("s3.secret", "hush-hush");

    // Nobody is there, then the bucket is not: both are said, and neither stops anything.
    let said = world.check();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("warning: recordings.store: s3://kept cannot be used"), "{said:?}");
    let peer = moto(&program, port);
    let said = world.check();
    assert!(said.out.contains("there is no bucket kept") && said.out.contains("then in s3://kept"), "{said:?}");
    let mut server = world.serve();
    let (id, said) = world.recorded("web-1", "echo needle-in-hay; exit 3");
    assert_eq!((said.code, said.out.as_str()), (3, "needle-in-hay\r\n"), "{said:?}");
    let waiting = eventually("the missing bucket is told", || {
        let shown = world.show(&id);
        shown["recording_awaits"].as_str().is_some_and(|text| text.contains("no bucket kept")).then_some(shown)
    });
    assert_eq!(waiting["recording_place"], "directory");
    assert!(world.figure("ravelin_recordings_waiting") >= 1.0);
    assert!(world.figure("ravelin_recordings_move_failures_total") >= 1.0);
    assert_eq!(world.here().len(), 1, "nothing is removed that is nowhere else");
    let before = world.export(&id, "cast").ok();
    assert!(server.log().contains("there is no bucket kept"), "{}", server.log());

    let _made = boto(&python, port, "make");
    let moved = world.moved(&id);
    let place = moved["recording_place"].as_str().expect("a place");
    assert!(place.starts_with("s3://kept/prod/") && place.ends_with(&format!("/{id}.rvr")), "{place}");
    assert_eq!(moved["recording_awaits"], Value::Null);
    assert_eq!(world.here(), Vec::<PathBuf>::new());
    eventually("none waits", || (world.figure("ravelin_recordings_waiting") == 0.0).then_some(()));
    // What lies there is the file, sealed.
    let digest = moved["recording_digest"].as_str().expect("a digest");
    let listed = boto(&python, port, "list");
    assert!(listed.contains(&format!("{id}.rvr {digest} False")), "{listed}");
    assert_eq!(world.export(&id, "cast").ok(), before);
    assert!(world.export(&id, "text").ok().contains("needle-in-hay"));
    assert!(world.ravelin(&["sessions", "acts", &id]).ok().contains("needle-in-hay"));
    let found = world.ravelin(&["sessions", "history", "--text", "needle*", "-o", "json"]).json();
    assert_eq!(found[0]["session"], id.as_str(), "{found}");
    let all = server.log();
    assert!(!all.contains("hush-hush"), "{all}");

    // Its time is over, but it is held; once it is given free the next round removes it.
    let (brief, _) = world.recorded("web-2", "echo brief");
    let _moved = world.moved(&brief);
    let _held = world.ravelin(&["sessions", "hold", &brief, "--reason", "case 7"]).ok();
    assert_eq!(server.stop(), 0, "{}", server.log());
    let mut server = world.serve();
    ravelin_e2e::rest(1500);
    assert!(world.export(&brief, "text").ok().contains("brief"));
    let _free = world.ravelin(&["sessions", "release", &brief]).ok();
    assert_eq!(server.stop(), 0, "{}", server.log());
    let server = world.serve();
    eventually("it is gone from the bucket", || (!boto(&python, port, "list").contains(&brief)).then_some(()));
    eventually("and this is known", || world.show(&brief)["recording_place"].is_null().then_some(()));
    assert_ne!(world.export(&brief, "text").code, 0);
    assert!(boto(&python, port, "list").contains(&id), "the other stays");

    // A crash with the store away: the recording is whole, waits, and is moved when the store is back.
    drop(peer);
    let said = world.export(&id, "text");
    assert_ne!(said.code, 0, "{said:?}");
    let mut cut = ravelin_e2e::Running::start(&mut world.on_terminal("web-1", "echo cut-$((40+2)); sleep 60"));
    cut.expect("cut-42");
    ravelin_e2e::rest(1500);
    let _gone = server.kill_dash_nine();
    cut.wait();
    let server = world.serve();
    let crashed = eventually("it is whole", || {
        let history = items(&world.ravelin(&["sessions", "history", "-o", "json"]).json());
        history.into_iter().find(|one| one["end_reason"] == "node_lost" && one["recording"] == "complete")
    });
    let crashed = crashed["id"].as_str().expect("an id").to_owned();
    assert_eq!(world.show(&crashed)["recording_place"], "directory");
    let _peer = moto(&program, port);
    let _made = boto(&python, port, "make");
    let _moved = world.moved(&crashed);
    assert!(world.export(&crashed, "text").ok().contains("cut-42"));
    // What somebody else removed is told as that. moto keeps nothing over its own end.
    let said = world.export(&id, "text");
    assert!(said.code != 0 && said.err.contains("recording"), "{said:?}");
    drop(server);
}

#[test]
fn recordings_are_moved_to_azure_blob_with_the_right_key_and_long_ones_in_parts() {
    let program = need!("E2E_AZURITE");
    let az = need!("E2E_AZ");
    let port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(program);
    command.args(["--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    let _peer = Peer::start(command.arg("--location").arg(folder.path()), port);
    let endpoint = format!("http://127.0.0.1:{port}/devstoreaccount1");
    let store = format!(
        "store.type = \"azure\"\nstore.url = \"{endpoint}\"\nstore.account = \"devstoreaccount1\"\n\
         store.container = \"kept\"\nstore.key_file = \"azure.key\""
    );
    let Some(mut world) = World::new(&store) else { return };
    world.secret("azure.key", "d3Jvbmc=");
    let said = world.check();
    assert!(said.code == 0 && said.out.contains("azure://devstoreaccount1/kept refuses"), "{said:?}");
    // Azurite's own, public development key.
    let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    world.secret("azure.key", key);
    let said = world.check();
    assert!(said.code == 0 && said.out.contains("there is no container kept"), "{said:?}");
    let made =
        format!("AccountName=devstoreaccount1;AccountKey={key};DefaultEndpointsProtocol=http;BlobEndpoint={endpoint};");
    let mut make = Command::new(az);
    make.args(["storage", "container", "create", "-n", "kept", "--connection-string", &made]);
    let _made =
        run(make.env("AZURE_CONFIG_DIR", world.dir.path().join("az")).env("AZURE_CORE_COLLECT_TELEMETRY", "0")).ok();
    let said = world.check();
    assert!(said.code == 0 && !said.out.contains("warning"), "{said:?}");

    let _server = world.serve();
    // Letters that do not repeat: more than one part of an upload, and many blocks when it is read.
    let (id, said) = world.recorded("web-1", "head -c 7000000 /dev/urandom | base64 -w 0; echo; echo end-of-it");
    assert_eq!(said.code, 0, "{}", said.err);
    let moved = world.moved(&id);
    let place = moved["recording_place"].as_str().expect("a place");
    assert!(place.starts_with("azure://devstoreaccount1/kept/") && place.ends_with(&format!("/{id}.rvr")), "{place}");
    assert_eq!(world.here(), Vec::<PathBuf>::new());
    let cast = world.export(&id, "cast").ok();
    assert!(shown(&cast) == said.out, "what is played is what was shown");
    assert!(!world.export(&id, "events").ok().is_empty());
}
