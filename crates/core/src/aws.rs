//! One way to set up the AWS SDK: pinned behaviour, timeouts that end, standard retries.
//!
//! Region, credentials and `AWS_ENDPOINT_URL` come from the SDK's own chain. The TLS provider is installed by each main. All
//! clients share one for HTTP.

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

/// Connections are refused within milliseconds or not at all; a packet that a security group drops is noticed by this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for the first byte of an answer, the request's own body included.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// One try, from the first byte sent to the answer's headers (and its body, where the SDK reads that itself).
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(90);
/// All tries together. Copies of large objects lift this for themselves.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(240);
/// Tries in all. The SDK's retries are the only ones for a single request.
const ATTEMPTS: u32 = 4;

/// The configuration that every client is made from.
pub async fn sdk_config(region: &str) -> SdkConfig {
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
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .load()
        .await
}

/// The SDK's own client for HTTP, of which a start waits for nothing.
///
/// Whenever an SDK client is made, its HTTP client is asked to get ready, and makes a connector with every certificate of the machine, to throw it
/// away: what stays is that they are read. Here they are read once, in a thread beside whatever else a start has to do.
#[derive(Debug)]
struct Http(SharedHttpClient);

impl Http {
    fn new() -> Self {
        let client = Builder::new().tls_provider(Provider::rustls(CryptoMode::AwsLc)).build_https();
        let reader = client.clone();
        // Without the thread they are read with the first request.
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
