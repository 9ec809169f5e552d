//! AWS's standard chain of credentials, by `aws-config`: keys in the environment, profiles with roles and programs, web
//! identity, containers, instances.
//!
//! Single sign-on is not in it; `docs/howto/ssm.md` says how to use it all the same. The chain's own requests go through
//! the same HTTP client as ours, so that proxies and trusted certificates hold for them too.

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_runtime::env_config::property::PropertiesKey;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_types::body::SdkBody;
use aws_types::region::Region;

/// Bytes of one answer of a credentials' source at most.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where credentials come from; nothing is asked before they are wanted. A profile that was named by an option wins over
/// keys in the environment.
pub(super) fn credentials(http: reqwest::Client, region: &str, profile: Option<&str>) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Chain {
        http: Http(http),
        region: region.to_owned(),
        profile: profile.map(str::to_owned),
    })
}

/// The place of a setting within a section `services`.
pub(super) fn service_key(section: &str, service: &str, name: &str) -> Option<PropertiesKey> {
    PropertiesKey::builder()
        .section_key("services")
        .section_name(section)
        .property_name(service)
        .sub_property_name(name)
        .build()
        .ok()
}

#[derive(Clone, Debug)]
struct Chain {
    http: Http,
    region: String,
    profile: Option<String>,
}

impl Chain {
    async fn provide(&self) -> aws_credential_types::provider::Result {
        let config = ProviderConfig::without_region()
            .with_region(Some(Region::new(self.region.clone())))
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_http_client(self.http.clone());
        match &self.profile {
            Some(profile) => {
                let provider =
                    ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build();
                provider.provide_credentials().await
            }
            None => DefaultCredentialsChain::builder().configure(config).build().await.provide_credentials().await,
        }
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

/// Our HTTP client as the chain wants it.
#[derive(Clone, Debug)]
struct Http(reqwest::Client);

impl HttpClient for Http {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.0.clone();
        HttpConnectorFuture::new(exchange(http, request))
    }
}

async fn exchange(http: reqwest::Client, request: HttpRequest) -> Result<Response, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let (parts, body) = request.into_parts();
    let Some(body) = body.bytes().map(<[u8]>::to_vec) else {
        return Err(ConnectorError::user("a request of the chain has no plain body".into()));
    };
    let sent = http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body).send().await;
    let mut answer = sent.map_err(unreached)?;
    let status =
        StatusCode::try_from(answer.status().as_u16()).map_err(|error| ConnectorError::other(error.into(), None))?;
    let headers = answer.headers().clone();
    let mut whole = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreached)? {
        if whole.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ConnectorError::other("the answer of a credentials' source is too large".into(), None));
        }
        whole.extend_from_slice(&chunk);
    }
    let mut response = Response::new(status, SdkBody::from(whole));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}

fn unreached(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}
