//! `kill -9` of the server with live sessions, then a restart: no ghost, a cause for every end.

use ravelin_e2e::{Running, Server, need};

#[test]
fn after_kill_dash_nine_left_over_sessions_are_node_lost_before_anything_is_accepted() {
    let ssh = need!("E2E_SSH");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::dev_in(dir.path());
    let mut shells: Vec<Running> = (0..3)
        .map(|_| {
            let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
            shell.send("echo up-$((40+2))\n");
            shell.expect("up-42");
            shell
        })
        .collect();
    let live = server.live();
    assert_eq!(live.len(), 3);
    server.kill_dash_nine();
    for shell in &mut shells {
        assert_eq!(shell.wait(), 255);
    }
    let server = Server::dev_in(dir.path());
    assert!(server.live().is_empty(), "ghosts: {:?}", server.live());
    let history = server.history();
    for session in &live {
        let ended = history.iter().find(|s| s["id"] == session["id"]).expect("it is in the history");
        assert_eq!(ended["end_reason"], "node_lost");
        assert_eq!(ended["actor"], "system");
        let at = |name: &str| ended[name].as_str().expect("a time").to_owned();
        assert_eq!(at("ended"), at("last_activity").max(at("connected")), "its end is its last sign of life");
    }
}

#[test]
fn an_orderly_stop_ends_sessions_as_node_stopped_and_tells_the_person() {
    let ssh = need!("E2E_SSH");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::dev_in(dir.path());
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
    shell.send("echo up-$((40+2))\n");
    shell.expect("up-42");
    let id = server.one_live("connected")["id"].clone();
    assert_eq!(server.stop(), 0, "{}", server.log());
    assert_eq!(shell.wait(), 255);
    assert!(shell.printed().contains("the bastion is stopping"), "{}", shell.printed());
    drop(server);
    let server = Server::dev_in(dir.path());
    let ended = server.history().into_iter().find(|s| s["id"] == id).expect("it is in the history");
    assert_eq!(ended["end_reason"], "node_stopped");
}

#[test]
fn a_second_server_on_the_same_state_is_refused_with_the_reason() {
    let server = Server::dev();
    let mut second = server.command(ravelin_e2e::binary());
    second.args(["dev", "--ssh", "127.0.0.1:0", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state-dir"]);
    let said = ravelin_e2e::run(second.arg(&server.dir));
    assert_ne!(said.code, 0);
    assert!(said.err.contains("another ravelin"), "{said:?}");
    assert!(server.live().is_empty(), "the first one goes on");
}
