//! Azure's native client: tunnels by the command line's published sequence over an independent WebSocket client, with
//! real ssh and scp through them; and the clients of the control API that `azure` does not drive.

use ravelin_e2e::{PATIENCE, Running, Server, eventually, kill, need, run, run_within};
use std::process::Command;

/// Listens on a free port and serves each connection as the command line's extension does: a token of its own, a
/// WebSocket of its own, 4 KiB at a time, and the token deleted at the end. `stubborn` leaves the last step out.
const TUNNEL: &str = r#"
import json, os, socket, ssl, sys, threading, urllib.error, urllib.parse, urllib.request
import websocket
from azure.identity import ClientSecretCredential
e = os.environ
credential = ClientSecretCredential(
    e["AZURE_TENANT_ID"], e["AZURE_CLIENT_ID"], e["AZURE_CLIENT_SECRET"],
    authority=e["AZURE_AUTHORITY_HOST"], disable_instance_discovery=True)
token = credential.get_token("https://management.azure.com/.default").token
host = urllib.parse.urlparse(e["RAVELIN_ARM_URL"]).netloc
def tokens():
    form = urllib.parse.urlencode({"resourceId": e["RAVELIN_TARGET_AZURE_ID"], "protocol": "tcptunnel",
                                   "workloadHostPort": "22", "aztoken": token}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"https://{host}/api/tokens", data=form)) as answer:
        return json.load(answer)
def serve(local):
    given = tokens()
    url = f"wss://{host}/webtunnelv2/{given['websocketToken']}?X-Node-Id={given['nodeId']}"
    ws = websocket.create_connection(url, sockopt=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
                                     sslopt={"ca_certs": e["SSL_CERT_FILE"]})
    def down():
        try:
            while True:
                data = ws.recv()
                if not data:
                    break
                assert isinstance(data, bytes), data
                local.sendall(data)
        except Exception:
            pass
        try:
            local.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    threading.Thread(target=down, daemon=True).start()
    try:
        while True:
            data = local.recv(4096)
            if not data:
                break
            ws.send_binary(data)
    except Exception:
        pass
    ws.close()
    try:
        urllib.request.urlopen(urllib.request.Request(
            f"https://{host}/api/tokens/{given['authToken']}", method="DELETE",
            headers={"X-Node-Id": given["nodeId"]}))
    except urllib.error.HTTPError as error:
        assert error.code == 404, error.code
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], "end", flush=True)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"#;

/// A running tunnel client and its port.
fn tunnel(server: &Server, python: &std::path::Path) -> (Running, String) {
    let client = Running::start(server.command(python).args(["-c", TUNNEL]));
    let port = eventually("the tunnel's port", || {
        let text = client.printed();
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        (words.len() >= 3 && words[0] == "port").then(|| words[1].clone())
    });
    (client, port)
}

/// `ssh` or `scp` to the tunnel's local port; the demo target is at its far end, and the bastion is in between.
fn through(server: &Server, program: &std::path::Path, port_option: &str, port: &str) -> Command {
    let mut command = server.command(program);
    command.args(["-F", "none", "-i", server.var("RAVELIN_SSH_KEY"), port_option, port]);
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes"] {
        command.args(["-o", option]);
    }
    command
}

fn me() -> String {
    run(Command::new("id").arg("-un")).ok().trim().to_owned()
}

#[test]
fn ssh_and_scp_go_through_tunnels_three_at_once_and_one_is_cut() {
    let (ssh, scp, python) = (need!("E2E_SSH"), need!("E2E_SCP"), need!("E2E_PYTHON"));
    let server = Server::dev();
    let (_client, port) = tunnel(&server, &python);
    let to = format!("{}@127.0.0.1", me());
    let said = run(through(&server, &ssh, "-p", &port).args([&to, "echo through-$((40+2))"]));
    assert_eq!(said.ok().trim(), "through-42");
    eventually("its session ended", || server.live().is_empty().then_some(()));
    let ended = server.history();
    // ssh says goodbye to the target before it closes, and either may be the faster to close then.
    let ends = [Some("client_closed"), Some("target_closed")];
    assert!(ended[0]["kind"] == "tunnel" && ends.contains(&ended[0]["end_reason"].as_str()), "{}", ended[0]);
    assert!(ended[0]["bytes_out"].as_u64().is_some_and(|bytes| bytes > 500), "{}", ended[0]);

    let file = server.dir.join("sent");
    std::fs::write(&file, (0..2_000_000_u32).map(|i| (i % 251) as u8).collect::<Vec<u8>>()).expect("written");
    let there = server.dir.join("arrived");
    let target = format!("{to}:{}", there.display());
    let said = run(through(&server, &scp, "-P", &port).arg(&file).arg(&target));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(std::fs::read(&file).expect("read") == std::fs::read(&there).expect("read"), "the copy differs");
    eventually("its session ended", || server.live().is_empty().then_some(()));

    let mut shells: Vec<Running> = (0..3)
        .map(|_| {
            let mut shell = Running::start(through(&server, &ssh, "-p", &port).args(["-tt", &to]));
            shell.send("echo up-$((40+2))\n");
            shell.expect("up-42");
            shell
        })
        .collect();
    let live = server.live();
    assert_eq!(live.len(), 3, "one session for each connection");
    let said = server.ravelin(&["sessions", "kill", live[0]["id"].as_str().expect("an id")]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(server.live().len(), 2, "and no ghost");
    let cut = eventually("the one that was cut ends", || shells.iter_mut().position(Running::has_ended));
    drop(shells.remove(cut));
    for shell in &mut shells {
        shell.send("echo still-$((50+5))\n");
        shell.expect("still-55");
    }
    drop(shells);
    // Nothing that opens anything is in the log.
    let log = server.log();
    for secret in [server.var("AZURE_CLIENT_SECRET"), "websocketToken", "authToken", "aztoken", "eyJ"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_tunnel_ends_with_its_client_whether_it_says_goodbye_or_not() {
    let (ssh, python) = (need!("E2E_SSH"), need!("E2E_PYTHON"));
    let server = Server::dev();
    let (client, port) = tunnel(&server, &python);
    let to = format!("{}@127.0.0.1", me());
    let mut shell = Running::start(through(&server, &ssh, "-p", &port).args(["-tt", &to]));
    shell.send("echo up-$((40+2))\n");
    shell.expect("up-42");
    assert_eq!(server.live().len(), 1);
    kill(client.pid(), "KILL");
    eventually("no ghost is left", || server.live().is_empty().then_some(()));
    assert_eq!(server.history()[0]["end_reason"], "client_closed");
}

#[test]
fn the_asynchronous_sdk_lists_disconnects_and_polls() {
    let ssh = need!("E2E_SSH");
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let (_shell, _id) = server.session_by_ssh(&ssh);
    let said = run(server.command(&python).args([
        "-c",
        r#"
import asyncio, json, os
from azure.identity.aio import ClientSecretCredential
from azure.mgmt.network.aio import NetworkManagementClient
from azure.core.pipeline.policies import HeadersPolicy
e = os.environ
group, name = e["AZURE_RESOURCE_GROUP"], e["AZURE_BASTION_NAME"]
async def main():
    ca = e["SSL_CERT_FILE"]
    async with ClientSecretCredential(
            e["AZURE_TENANT_ID"], e["AZURE_CLIENT_ID"], e["AZURE_CLIENT_SECRET"], authority=e["AZURE_AUTHORITY_HOST"],
            disable_instance_discovery=True, connection_verify=ca) as credential, NetworkManagementClient(
            credential, e["AZURE_SUBSCRIPTION_ID"], base_url=e["RAVELIN_ARM_URL"], connection_verify=ca,
            polling_interval=1) as client:
        async def ids(**options):
            poller = await client.begin_get_active_sessions(group, name, **options)
            return [s.session_id async for s in await poller.result()]
        at_once = await ids()
        later = await ids(headers={"Prefer": "respond-async"})
        assert at_once == later, (at_once, later)
        states = [(s.session_id, s.state) async for s in client.disconnect_active_sessions(group, name, at_once)]
        host = await client.bastion_hosts.get(group, name)
        tagged = await (await client.bastion_hosts.begin_update(group, name, {"tags": {"a": "b"}})).result()
        vm = {"vms": [{"vm": {"id": e["RAVELIN_TARGET_AZURE_ID"]}}]}
        links = [l.bsl async for l in await (await client.begin_put_bastion_shareable_link(group, name, vm)).result()]
        token = links[0].rsplit("/", 1)[1]
        await (await client.begin_delete_bastion_shareable_link_by_token(group, name, {"tokens": [token]})).result()
        left = [l.bsl async for l in client.get_bastion_shareable_link(group, name, {})]
        print(json.dumps({"ids": at_once, "states": states, "tunneling": host.enable_tunneling,
                          "tags": dict(tagged.tags), "links": len(links), "left": left}))
asyncio.run(main())
"#,
    ]));
    let out = said.json();
    assert_eq!(out["ids"].as_array().map(Vec::len), Some(1), "{out}");
    assert_eq!(out["states"][0][1], "Disconnected", "{out}");
    assert_eq!(out["tunneling"], true, "{out}");
    assert_eq!(out["tags"]["a"], "b", "{out}");
    assert_eq!((&out["links"], &out["left"]), (&serde_json::json!(1), &serde_json::json!([])), "{out}");
}

#[test]
fn the_javascript_sdk_lists_and_disconnects() {
    let ssh = need!("E2E_SSH");
    let modules = need!("E2E_NODE_MODULES");
    let server = Server::dev();
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
    shell.send("echo up-$((40+2))\n");
    shell.expect("up-42");
    let script = r#"
const { ClientSecretCredential } = require("@azure/identity");
const { NetworkManagementClient } = require("@azure/arm-network");
const e = process.env;
(async () => {
  const credential = new ClientSecretCredential(e.AZURE_TENANT_ID, e.AZURE_CLIENT_ID, e.AZURE_CLIENT_SECRET,
    { authorityHost: e.AZURE_AUTHORITY_HOST, disableInstanceDiscovery: true });
  const client = new NetworkManagementClient(credential, e.AZURE_SUBSCRIPTION_ID, { endpoint: e.RAVELIN_ARM_URL });
  const [group, name] = [e.AZURE_RESOURCE_GROUP, e.AZURE_BASTION_NAME];
  const ids = [];
  for await (const s of await client.beginListActiveSessionsAndWait(group, name)) ids.push(s.sessionId);
  const states = [];
  for await (const s of client.listDisconnectActiveSessions(group, name, { sessionIds: ids })) states.push(s.state);
  const host = await client.bastionHosts.get(group, name);
  console.log(JSON.stringify({ ids, states, dns: host.dnsName }));
})().catch((error) => { console.error(error); process.exit(1); });
"#;
    let out = run(server.command("node").env("NODE_PATH", modules).args(["-e", script])).json();
    assert_eq!(out["ids"].as_array().map(Vec::len), Some(1), "{out}");
    assert_eq!(out["states"], serde_json::json!(["Disconnected"]), "{out}");
}

#[test]
fn the_command_line_registers_logs_in_and_asks() {
    let az = need!("E2E_AZ");
    let server = Server::dev();
    let home = server.dir.join("azure");
    let az = |args: &[&str]| {
        let mut command = server.command(&az);
        command.env("AZURE_CONFIG_DIR", &home).env("AZURE_CORE_COLLECT_TELEMETRY", "false").args(args);
        run_within(&mut command, PATIENCE * 4)
    };
    let url = server.var("RAVELIN_ARM_URL").to_owned();
    let _registered =
        az(&["cloud", "register", "-n", "Ravelin", "--endpoint-resource-manager", &format!("{url}/")]).ok();
    let _chosen = az(&["cloud", "set", "-n", "Ravelin"]).ok();
    let [id, secret, tenant] = ["AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"].map(|v| server.var(v));
    let _in = az(&["login", "--service-principal", "-u", id, "-p", secret, "--tenant", tenant, "-o", "none"]).ok();
    let account = az(&["account", "show", "-o", "json"]).json();
    assert_eq!(account["id"], server.var("AZURE_SUBSCRIPTION_ID"), "{account}");
    assert_eq!((&account["environmentName"], &account["state"]), (&"Ravelin".into(), &"Enabled".into()), "{account}");
    assert_eq!((&account["user"]["name"], &account["user"]["type"]), (&id.into(), &"servicePrincipal".into()));
    let accounts = az(&["account", "list", "-o", "json"]).json();
    assert_eq!(accounts.as_array().map(Vec::len), Some(1), "{accounts}");
    assert_eq!((&accounts[0]["id"], &accounts[0]["cloudName"]), (&account["id"], &"Ravelin".into()), "{accounts}");
    let [subscription, group, name] =
        ["AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_BASTION_NAME"].map(|v| server.var(v));
    let host =
        format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network/bastionHosts/{name}");
    let list = az(&["rest", "--method", "post", "--url", &format!("{host}/getActiveSessions?api-version=2022-07-01")]);
    assert_eq!(list.json(), serde_json::json!({ "value": [] }));
    // Without --api-version it asks the provider which one there is.
    let shown = az(&["resource", "show", "--ids", &host, "-o", "json"]).json();
    assert_eq!(shown["properties"]["enableTunneling"], true, "{shown}");
    let vm = az(&["resource", "show", "--ids", server.var("RAVELIN_TARGET_AZURE_ID"), "-o", "json"]).json();
    assert_eq!(vm["name"], server.var("RAVELIN_TARGET"), "{vm}");
    // These ask in the newest version that the command line knows.
    let vms = az(&["vm", "list", "-o", "json"]).json();
    assert_eq!((vms.as_array().map(Vec::len), &vms[0]["id"]), (Some(1), &vm["id"]), "{vms}");
    assert_eq!(az(&["group", "exists", "-n", group]).ok().trim(), "true");
    assert_eq!(az(&["group", "exists", "-n", "nowhere"]).ok().trim(), "false");
}
