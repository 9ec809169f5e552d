//! The scripts of the how-to pages, run from the pages, so that documentation cannot rot.
//!
//! A block under `<!-- run: list -->` must show the live session; one under `<!-- run: end -->` must show it and end it.

use ravelin_e2e::{PATIENCE, Said, Server, binary, client, need, run_within};
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: &str = include_str!("../../../../docs/howto/azure-scripts.md");

const ARTICLE: &str = "The article, step by step";

#[derive(Debug)]
struct Block {
    section: &'static str,
    language: &'static str,
    ends: bool,
    text: &'static str,
}

/// The blocks of the page that are to be run, in order.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("<!-- run: ") {
        let (what, after) = after.split_once(" -->\n```").expect("a block follows its mark");
        let (language, after) = after.split_once('\n').expect("a language");
        let (text, after) = after.split_once("\n```\n").expect("the block's end");
        let before = &PAGE[..PAGE.len() - rest.len() + before.len()];
        let section = before.rsplit_once("\n## ").map_or("", |(_, tail)| tail.lines().next().unwrap_or_default());
        assert!(matches!(what, "list" | "end"), "{what}");
        blocks.push(Block { section, language, ends: what == "end", text });
        rest = after;
    }
    blocks
}

#[test]
fn every_language_of_the_page_is_run() {
    let sections: Vec<&str> = blocks().iter().map(|block| block.section).collect();
    assert_eq!(sections, ["One line", "One line", "curl", "Python", "JavaScript", "az", "az", ARTICLE]);
}

/// Runs the blocks of a section, each against a bastion with one live session.
fn try_section(section: &str, runner: impl Fn(&Server, &Block, &Path) -> Command) {
    let ssh = need!("E2E_SSH");
    for block in blocks().iter().filter(|block| block.section == section) {
        let server = Server::dev();
        let (mut session, id) = server.session_by_ssh(&ssh);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = runner(&server, block, folder.path());
        // A command line in Python takes seconds for each of its commands, on a busy machine many.
        let said: Said = run_within(command.current_dir(folder.path()), PATIENCE * 8);
        assert_eq!(said.code, 0, "{block:?}\nstdout: {}\nstderr: {}", said.out, said.err);
        assert!(said.out.contains(&id), "{id} is not in what {section} shows: {}\n{}", said.out, said.err);
        assert_eq!(server.live().is_empty(), block.ends, "{block:?}\n{}", said.out);
        if block.ends {
            assert!(said.out.contains("Disconnected"), "{}", said.out);
            session.wait();
        }
    }
}

/// A shell block, with `ravelin` (and whatever else is named) on its path.
fn shell(server: &Server, block: &Block, folders: &[PathBuf]) -> Command {
    assert_eq!(block.language, "sh");
    let ours = binary().parent().expect("a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(ours).chain(folders.iter().cloned()).chain(std::env::split_paths(&path));
    let mut command = server.command("bash");
    command.args(["-euo", "pipefail", "-c", block.text]);
    command.env("PATH", std::env::join_paths(folders).expect("a path"));
    command
}

#[test]
fn one_line() {
    try_section("One line", |server, block, _| shell(server, block, &[]));
}

#[test]
fn curl() {
    if client("E2E_CURL").is_none() {
        return;
    }
    try_section("curl", |server, block, _| shell(server, block, &[]));
}

#[test]
fn the_article() {
    if client("E2E_CURL").is_none() {
        return;
    }
    try_section(ARTICLE, |server, block, _| shell(server, block, &[]));
}

#[test]
fn python() {
    let python = need!("E2E_PYTHON");
    try_section("Python", |server, block, _| {
        let mut command = server.command(&python);
        command.args(["-c", block.text]);
        command
    });
}

#[test]
fn javascript() {
    let modules = need!("E2E_NODE_MODULES");
    try_section("JavaScript", |server, block, folder| {
        // An ES module finds packages beside itself only.
        std::os::unix::fs::symlink(&modules, folder.join("node_modules")).expect("a link");
        let script = folder.join("page.mjs");
        std::fs::write(&script, block.text).expect("a file");
        let mut command = server.command("node");
        command.arg(script);
        command
    });
}

#[test]
fn az() {
    let az = need!("E2E_AZ");
    try_section("az", |server, block, _| {
        let mut command = shell(server, block, &[az.parent().expect("a folder").to_owned()]);
        command.env("TOKEN", super::powershell::arm_token(server)).env("AZURE_CONFIG_DIR", server.dir.join("azure"));
        command.env("AZURE_CORE_COLLECT_TELEMETRY", "false");
        command
    });
}
