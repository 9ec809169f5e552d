//! Files that change while the node runs.
//!
//! The rules (principals, targets, policies) and the certificate are put in force anew; a file with a fault in it
//! changes nothing. What is set once, such as addresses, is pointed out and waits for the next start.

use super::node::Node;
use crate::config::{self, Config, Loaded, Tls};
use ravelin_model::text::printable;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::Signal;

/// Watches the files of a configuration.
pub(super) struct Reloader {
    path: PathBuf,
    config: Config,
    watched: Watched,
}

impl Reloader {
    /// How often the files are looked at. A change counts once it has lasted from one look to the next: an editor may
    /// empty a file before it writes it, and an empty inventory would end every session.
    const LOOK_EVERY: Duration = Duration::from_millis(500);

    /// `loaded` is what is in force, read from `path`.
    pub(super) fn new(path: &Path, loaded: &Loaded) -> Self {
        Self { path: path.to_path_buf(), config: loaded.config.clone(), watched: Watched::new(&loaded.files) }
    }

    /// Reloads whenever a file has changed or SIGHUP comes; does not return.
    pub(super) async fn run(&mut self, node: &Node, hangup: &mut Signal) {
        let mut looks = tokio::time::interval(Self::LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    if !self.watched.has_settled_anew() {
                        continue;
                    }
                    tracing::info!("the configuration changed");
                }
                _ = hangup.recv() => tracing::info!("told to read the configuration again"),
            }
            self.reload(node).await;
        }
    }

    async fn reload(&mut self, node: &Node) {
        self.watched.look_before_reading();
        let loaded = match config::load(&self.path) {
            Ok(loaded) => loaded,
            Err(refused) => {
                for fault in &refused.faults {
                    tracing::error!("{fault}");
                }
                let faults = refused.faults.len();
                tracing::error!(faults, "the configuration is refused; what was in force stays in force");
                self.watched.replace(&refused.files);
                let first = refused
                    .faults
                    .first()
                    .map(|fault| printable(&format!("{} {}", fault.place, fault.key), 300))
                    .unwrap_or_default();
                let facts = BTreeMap::from([("faults".to_owned(), faults.to_string()), ("first".to_owned(), first)]);
                if let Err(refusal) = node.engine.record_refused_rules(facts).await {
                    tracing::error!(?refusal, "the record of the refusal could not be written");
                }
                return;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        for key in self.config.set_once_differs(&loaded.config) {
            tracing::warn!(key, "this change takes effect at the next start");
        }
        let (principals, targets) =
            (loaded.rules.inventory.principals().count(), loaded.rules.inventory.targets().len());
        let facts = facts(&loaded);
        match node.engine.reload_with(loaded.rules, facts).await {
            Ok(ended) => tracing::info!(principals, targets, policies = loaded.policies.len(), ended, "reloaded"),
            Err(refusal) => tracing::error!(?refusal, "reloaded, but the record of it could not be written"),
        }
        if self.config.sinks != loaded.config.sinks {
            match node.replace_sinks(loaded.config.sinks.clone()).await {
                Ok(()) => self.config.sinks.clone_from(&loaded.config.sinks),
                // They still differ from what is in force, so the next reload tries it again.
                Err(refusal) => tracing::error!(
                    ?refusal,
                    "the sinks could not be changed, and ship on as they were; tell the node to reload to try again"
                ),
            }
        }
        if let (Tls::Files { .. }, Tls::Files { certified, .. }) = (&self.config.tls, &loaded.config.tls) {
            node.replace_certificate(certified.clone());
        }
        self.watched.replace(&loaded.files);
    }
}

/// What the record tells of a configuration that is in force: enough to see that it changed, and from which files.
pub(super) fn facts(loaded: &Loaded) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("digest".to_owned(), loaded.digest.clone()),
        ("policies".to_owned(), printable(&loaded.policies.join(" "), 400)),
        ("sinks".to_owned(), loaded.config.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>().join(" ")),
    ])
}

/// What can be seen of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Glimpse {
    modified: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl Glimpse {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self { modified: (meta.mtime(), meta.mtime_nsec()), bytes: meta.len(), inode: meta.ino() })
    }
}

type Glimpses = HashMap<PathBuf, Option<Glimpse>>;

/// Tells when files have changed and come to rest.
struct Watched {
    /// As they were when they were read.
    read: Glimpses,
    /// As they were at the last look.
    last: Glimpses,
}

impl Watched {
    fn new(files: &[PathBuf]) -> Self {
        let read = look(files.iter());
        Self { last: read.clone(), read }
    }

    fn has_settled_anew(&mut self) -> bool {
        let now = look(self.read.keys());
        let settled = now == self.last && now != self.read;
        self.last = now;
        settled
    }

    /// A change that comes while the files are being read must not be missed: it is measured against this look.
    fn look_before_reading(&mut self) {
        self.last = look(self.read.keys());
    }

    /// These have been read since the last look.
    fn replace(&mut self, files: &[PathBuf]) {
        let glimpse = |path: &PathBuf| self.last.get(path).copied().unwrap_or_else(|| Glimpse::of(path));
        self.read = files.iter().map(|path| (path.clone(), glimpse(path))).collect();
        self.last.clone_from(&self.read);
    }
}

fn look<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Glimpses {
    files.map(|path| (path.clone(), Glimpse::of(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDir;

    fn names(node: &Node) -> Vec<String> {
        node.engine.directory.rules().inventory.principals().map(|principal| principal.name.to_string()).collect()
    }

    #[tokio::test]
    async fn a_bad_file_changes_nothing_and_a_good_one_is_in_force_at_once() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("ravelin.toml");
        let write = |people: &str| {
            let text = format!("inventory = [\"people.toml\"]\nnode.state_dir = {:?}\n", folder.path().join("state"));
            std::fs::write(&path, text).expect("may be written");
            std::fs::write(folder.path().join("people.toml"), people).expect("may be written");
        };
        write("[[principal]]\nname = \"alice\"\n");
        let loaded = config::load(&path).expect("nothing is wrong");
        let state = StateDir::open(&loaded.config.state_dir).expect("a new directory");
        let node = Node::start(&loaded.config, loaded.rules.clone(), &state).await.expect("a node");
        let mut reloader = Reloader::new(&path, &loaded);
        assert_eq!(names(&node), ["alice"]);

        write("[[principal]]\nname = \"bob\"\ncolour = \"red\"\n");
        reloader.reload(&node).await;
        assert_eq!(names(&node), ["alice"], "what was in force stays in force");

        write("[[principal]]\nname = \"bob\"\n[[principal]]\nname = \"carol\"\n");
        reloader.reload(&node).await;
        assert_eq!(names(&node), ["bob", "carol"]);
    }

    #[test]
    fn a_change_counts_once_it_has_come_to_rest() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("inventory.toml");
        let files = [path.clone()];
        std::fs::write(&path, "one").expect("may be written");
        let mut watched = Watched::new(&files);
        assert!(!watched.has_settled_anew());
        std::fs::write(&path, "").expect("may be written");
        assert!(!watched.has_settled_anew(), "seen for the first time");
        std::fs::write(&path, "three").expect("may be written");
        assert!(!watched.has_settled_anew(), "it moved on");
        assert!(watched.has_settled_anew(), "it came to rest");
        watched.look_before_reading();
        watched.replace(&files);
        assert!(!watched.has_settled_anew(), "it was read");
        std::fs::remove_file(&path).expect("may be removed");
        assert!(!watched.has_settled_anew());
        assert!(watched.has_settled_anew(), "its absence is a change too");
    }

    #[test]
    fn a_change_while_the_files_are_being_read_is_seen() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("inventory.toml");
        let files = [path.clone()];
        std::fs::write(&path, "one").expect("may be written");
        let mut watched = Watched::new(&files);
        watched.look_before_reading();
        std::fs::write(&path, "three").expect("may be written");
        watched.replace(&files);
        assert!(!watched.has_settled_anew(), "seen for the first time");
        assert!(watched.has_settled_anew());
    }
}
