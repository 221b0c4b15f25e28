//! Configures the AWS SDK for every client: pinned behaviour version, timeouts, standard retries.
//!
//! Credentials and `AWS_ENDPOINT_URL` come from the SDK's own chain. Each binary installs the TLS provider. All clients
//! share one HTTP client.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;

/// Limit for a connection attempt. It detects security groups, which drop packets instead of refusing connections.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for the first byte of a response, including the time to send the request.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit for one attempt, up to the response's headers, or to its body where the SDK reads it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(90);
/// Limit for all attempts of a request. Copies of large objects set a longer one.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(240);
/// Number of attempts. Single requests are retried only by the SDK.
const MAX_ATTEMPTS: u32 = 4;

/// Returns the configuration of every client.
pub(crate) async fn sdk_config(region: &str) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new(region.to_owned()))
        .http_client(Http::new())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        .load()
        .await
}

/// The SDK's HTTP client, which reads the system's certificates in the background.
///
/// Each new SDK client validates its HTTP client. That builds a connector with all certificates of the system and drops
/// it, only to have them cached. Here one thread does this once, while the start of the process continues.
#[derive(Debug)]
struct Http(SharedHttpClient);

impl Http {
    fn new() -> Self {
        let client = Builder::new().tls_provider(Provider::rustls(CryptoMode::AwsLc)).build_https();
        let reader = client.clone();
        // If the thread cannot start, the first request reads them.
        let _ = std::thread::Builder::new().name("certificates".into()).spawn(move || {
            reader.validate_base_client_config(&RuntimeComponentsBuilder::new("certificates"), &ConfigBag::base())
        });
        Self(client)
    }
}

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}
