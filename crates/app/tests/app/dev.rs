//! `ravelin dev` on free ports, and what it says to its clients.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running `ravelin dev`.
pub(crate) struct Dev {
    child: Child,
    env: BTreeMap<String, String>,
    _folder: tempfile::TempDir,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may be gone already, when a test failed for that reason.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Dev {
    /// Starts one, and waits until it is up.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut dev = Command::new(env!("CARGO_BIN_EXE_ravelin"));
        let free = "127.0.0.1:0";
        dev.args(["dev", "--ssh", free, "--https", free, "--http", free, "--state-dir"]).arg(folder.path());
        let child = dev.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let path = folder.path().join("dev.env");
        let begun = Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < PATIENCE, "it did not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        let env = text
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()));
        Self { child, env: env.collect(), _folder: folder }
    }

    /// A variable of its `dev.env`.
    pub(crate) fn var(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}
