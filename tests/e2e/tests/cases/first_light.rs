//! The main job: a person's ssh goes through, three interfaces list it with the same facts, any of them ends it.

use ravelin_e2e::{Running, Server, eventually, need, run};

#[test]
fn dev_env_has_every_promised_variable() {
    let server = Server::dev();
    let promised = "RAVELIN_URL RAVELIN_HTTP_URL RAVELIN_TOKEN RAVELIN_SSH_HOST RAVELIN_SSH_PORT RAVELIN_SSH_USER \
        RAVELIN_SSH_KEY RAVELIN_SSH_KNOWN_HOSTS RAVELIN_TARGET RAVELIN_TARGET_AWS_ID RAVELIN_TARGET_AZURE_ID \
        AWS_ENDPOINT_URL_SSM AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION AWS_REGION AWS_CA_BUNDLE \
        RAVELIN_ARM_URL AZURE_AUTHORITY_HOST AZURE_TENANT_ID AZURE_CLIENT_ID AZURE_CLIENT_SECRET AZURE_SUBSCRIPTION_ID \
        AZURE_RESOURCE_GROUP AZURE_BASTION_NAME SSL_CERT_FILE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS";
    for name in promised.split_whitespace() {
        assert!(!server.var(name).is_empty(), "{name} is empty");
    }
    let mode = run(std::process::Command::new("stat").args(["-c", "%a"]).arg(server.dir.join("dev.env"))).ok();
    assert_eq!(mode.trim(), "600");
}

#[test]
fn three_interfaces_list_one_session_with_the_same_facts() {
    let ssh = need!("E2E_SSH");
    let aws = need!("E2E_AWS");
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
    shell.send("echo shell-$((6*7))-up\n");
    shell.expect("shell-42-up");

    let ours = eventually("the session is a connected shell", || {
        server.live().into_iter().find(|s| s["state"] == "connected" && s["kind"] == "shell")
    });
    let id = ours["id"].as_str().expect("an id");
    assert_eq!(server.live().len(), 1);
    assert_eq!(ours["principal"], server.var("RAVELIN_SSH_USER"));
    assert_eq!(ours["target"]["name"], server.var("RAVELIN_TARGET"));

    let list = ["ssm", "describe-sessions", "--state", "Active", "--output", "json"];
    let theirs = run(server.command(&aws).args(list)).json();
    let sessions = theirs["Sessions"].as_array().expect("a list");
    assert_eq!(sessions.len(), 1, "{theirs}");
    assert_eq!(sessions[0]["SessionId"], id);
    assert_eq!(sessions[0]["Status"], "Connected");
    assert_eq!(sessions[0]["Target"], server.var("RAVELIN_TARGET_AWS_ID"));
    let owner = sessions[0]["Owner"].as_str().expect("an owner");
    assert!(owner.ends_with(&format!(":user/{}", server.var("RAVELIN_SSH_USER"))), "{owner}");

    let azure = run(server.command(&python).args(["-c", super::azure::LIST])).json();
    let sessions = azure.as_array().expect("a list");
    assert_eq!(sessions.len(), 1, "{azure}");
    assert_eq!(sessions[0]["sessionId"], id);
    assert_eq!(sessions[0]["userName"], server.var("RAVELIN_SSH_USER"));
    assert_eq!(sessions[0]["targetHostName"], server.var("RAVELIN_TARGET"));
    assert_eq!(sessions[0]["targetResourceId"], server.var("RAVELIN_TARGET_AZURE_ID"));
    assert_eq!(sessions[0]["protocol"], "SSH");

    shell.send("exit 0\n");
    assert_eq!(shell.wait(), 0);
    eventually("nothing is live", || server.live().is_empty().then_some(()));
    let ended = server.history().into_iter().find(|s| s["id"] == id).expect("it is in the history");
    assert_eq!(ended["state"], "terminated");
    assert_eq!(ended["end_reason"], "client_closed", "{ended}");
    assert!(ended["bytes_out"].as_u64().expect("a count") > 0);
    let history = ["ssm", "describe-sessions", "--state", "History", "--output", "json"];
    let theirs = run(server.command(&aws).args(history)).json();
    assert_eq!(theirs["Sessions"][0]["SessionId"], id);
    assert_eq!(theirs["Sessions"][0]["Status"], "Terminated");
    assert!(!theirs["Sessions"][0]["EndDate"].is_null());
}

#[test]
fn history_survives_an_orderly_restart() {
    let ssh = need!("E2E_SSH");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::dev_in(dir.path());
    assert_eq!(run(&mut server.ssh(&ssh, &[&server.destination(), "true"])).code, 0);
    let before = eventually("one is in the history", || server.history().first().cloned());
    assert_eq!(server.stop(), 0);
    drop(server);
    let server = Server::dev_in(dir.path());
    let after = server.history().into_iter().find(|s| s["id"] == before["id"]).expect("it is still there");
    assert_eq!(before, after);
    assert!(server.live().is_empty());
}
