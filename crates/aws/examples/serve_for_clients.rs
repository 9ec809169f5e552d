//! The edge on a loopback port with a few sessions behind it, for trying real clients by hand:
//!
//! ```text
//! cargo run -p ravelin-aws --example serve_for_clients
//! ```
//!
//! prints the shell lines that point a client at it, and serves until it is stopped.

#[path = "../tests/aws/world.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod world;

use ravelin_model::session::EndReason;
use std::net::SocketAddr;
use world::World;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let world = World::with(|config| config, address.port()).await;
    let mut live = Vec::new();
    for at in 0..7 {
        live.push(world.open(if at % 2 == 0 { "alice" } else { "bob" }, "web-1").await);
    }
    for _ in 0..5 {
        world.open("bob", "web-1").await.end(EndReason::ClientClosed, "exit 0").await;
    }
    let key = world.key("alice");
    println!("export AWS_ENDPOINT_URL_SSM=http://{address} AWS_DEFAULT_REGION=eu-west-1");
    println!("export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}", key.id, key.secret);
    axum::serve(listener, world.router.clone().into_make_service_with_connect_info::<SocketAddr>()).await
}
