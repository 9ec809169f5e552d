//! The client half against servers of its own: what a bastion may answer, and what a hostile one may try.

mod arm;
mod tunnel;

use async_trait::async_trait;
use axum::Router;
use ravelin_azure::client::TokenSource;
use reqwest::Url;
use secrecy::SecretString;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The token that every request must carry.
const TOKEN: &str = "a-token-of-this-test";

struct Fixed;

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self) -> Result<SecretString, String> {
        Ok(SecretString::from(TOKEN))
    }
}

fn tokens() -> Arc<dyn TokenSource> {
    Arc::new(Fixed)
}

fn http() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).tls_certs_only([]);
    builder.build().expect("a client")
}

/// Serves `router` on loopback for as long as the test's runtime lives.
async fn serve(router: Router) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    Url::parse(&format!("http://{address}")).expect("an address")
}
