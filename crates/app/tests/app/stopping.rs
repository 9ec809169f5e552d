//! How a bastion stops: asked once it drains, asked twice it ends what is open, asked a third time it is gone.

use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::private::{Ed25519Keypair, PrivateKey};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Far longer than the test: only a second signal can end it in time.
const DRAIN: Duration = Duration::from_secs(600);

struct AnyHost;

impl russh::client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

struct Bastion {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Drop for Bastion {
    fn drop(&mut self) {
        // It is gone already, unless the test failed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Bastion {
    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }

    /// The first event of the log whose message begins so.
    fn says(&mut self, message: &str) -> Value {
        let events = self.log.by_ref().map_while(Result::ok).map(|line| serde_json::from_str(&line));
        let mut events = events.map(Result::unwrap_or_default);
        events
            .find(|event: &Value| event["message"].as_str().is_some_and(|said| said.starts_with(message)))
            .unwrap_or_else(|| panic!("it never said {message:?}"))
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let line = key.public_key().to_openssh().expect("a public key has a line");
    let config = format!(
        "node.state_dir = \"state\"\ndrain.period = \"{} s\"\n\
         [listen]\nssh = \"127.0.0.1:0\"\n\
         [[principal]]\nname = \"alice\"\ngroups = [\"web\"]\nssh_keys = [\"{line}\"]\n\
         [[target]]\nname = \"web-1\"\naddress = \"127.0.0.1\"\nport = {}\nhost_keys = [\"{line}\"]\n\
         shared_with = [\"web\"]\nlogins = [{{ name = \"root\", agent = true }}]\n",
        DRAIN.as_secs(),
        target.local_addr().expect("a bound address").port()
    );
    let path = folder.path().join("ravelin.toml");
    std::fs::write(&path, config).expect("may be written");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_ravelin"));
    serve.args(["serve", "--log-format", "json", "--log", "info", "-c"]).arg(&path);
    let mut child = serve.stderr(Stdio::piped()).spawn().expect("it starts");
    let log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut bastion = Bastion { child, log };
    let listening = bastion.says("listening");
    let ssh = listening["address"].as_str().expect("it says where").to_owned();
    bastion.says("ready");

    let mut client = russh::client::connect(Arc::default(), &ssh, AnyHost).await.expect("it answers");
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(client.authenticate_publickey("alice", key).await.expect("an answer").success());
    let opened = client.channel_open_direct_tcpip("web-1", 22, "127.0.0.1", 1);
    let (channel, leg) = tokio::join!(opened, target.accept());
    let (_channel, _leg) = (channel.expect("a session"), leg.expect("a leg to the target"));

    bastion.terminate();
    assert_eq!(bastion.says("stopping")["live"], 1);
    let begun = Instant::now();
    bastion.terminate();
    bastion.says("told to stop again");
    bastion.says("stopped");
    let status = bastion.child.wait().expect("it ends");
    assert!(status.success() && begun.elapsed() < Duration::from_secs(30), "{status} after {:?}", begun.elapsed());
}
