//! Calls the ingest function of a stack, for the command line.
//!
//! Only two operations are needed, Invoke of Lambda and DescribeStackResource of CloudFormation. Their SDK crates are large, so
//! the requests are signed here, as are those of `kinesis`. A request is sent once: a second one could start the same work again.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_secretsmanager::config::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::aws::sdk_config;
use crate::aws_failure;
use crate::error::{Error, ErrorKind, Result};

/// The logical name of the ingest function in the template.
const LOGICAL_NAME: &str = "IngestFunction";
/// Limit for a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for the response: a function runs for at most 900 seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(910);
/// All characters except those that RFC 3986 calls unreserved.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A deployed ingest function.
#[derive(Debug)]
pub struct IngestFunction {
    name: String,
    requests: SignedRequests,
}

impl IngestFunction {
    /// The function with this name or ARN.
    pub async fn named(region: &str, name: &str) -> Self {
        Self { name: name.to_owned(), requests: SignedRequests::new(region).await }
    }

    /// The ingest function of a stack.
    ///
    /// # Errors
    /// When CloudFormation has no such stack, or does not allow the caller to read it.
    pub async fn of_stack(region: &str, stack: &str) -> Result<Self> {
        let requests = SignedRequests::new(region).await;
        let encoded = utf8_percent_encode(stack, &RESERVED);
        let form = format!(
            "Action=DescribeStackResource&Version=2010-05-15&LogicalResourceId={LOGICAL_NAME}&StackName={encoded}"
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let response = requests.post("cloudformation", "/", &headers, form).await?;
        if response.status != 200 {
            let reason = xml_text(&response.body, "Message").unwrap_or("CloudFormation gave no reason");
            let message = format!("the ingest function of the stack {stack:?} cannot be found: {reason}");
            return Err(Error::new(kind_of_status(response.status), message));
        }
        let name = xml_text(&response.body, "PhysicalResourceId")
            .ok_or_else(|| Error::new(ErrorKind::Settings, format!("the stack {stack:?} has no ingest function")))?;
        Ok(Self { name: name.to_owned(), requests })
    }

    /// The name of the function.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a request to the function, and returns the body of its response.
    ///
    /// # Errors
    /// The error of the function, with its kind; or the reason why it was not started.
    pub async fn invoke(&self, request: &Value) -> Result<Value> {
        let path = format!("/2015-03-31/functions/{}/invocations", utf8_percent_encode(&self.name, &RESERVED));
        let headers = [("content-type", "application/json")];
        let response = self.requests.post("lambda", &path, &headers, request.to_string()).await?;
        let body: Value = serde_json::from_str(&response.body).unwrap_or(Value::Null);
        if response.status != 200 {
            let reason = body["Message"].as_str().or(body["message"].as_str()).unwrap_or("Lambda gave no reason");
            let message = format!("the function {:?} cannot be invoked: {reason}", self.name);
            return Err(Error::new(kind_of_status(response.status), message));
        }
        if response.is_function_error || body["errorType"].is_string() {
            return Err(function_error(&body));
        }
        let text = body["body"].as_str().unwrap_or_default();
        serde_json::from_str(text).map_err(|error| {
            let message =
                format!("the function {:?} is not an ingest function: its response has another form", self.name);
            Error::new(ErrorKind::Settings, message).with_source(error)
        })
    }
}

/// The error that the function has returned. Another kind, such as a timeout, comes from Lambda itself.
fn function_error(body: &Value) -> Error {
    let (kind, message) = (body["errorType"].as_str().unwrap_or_default(), body["errorMessage"].as_str());
    let message = message.unwrap_or("the function failed without a message");
    match ErrorKind::ALL.iter().find(|known| known.name() == kind) {
        Some(known) => Error::new(*known, message),
        None => Error::new(ErrorKind::Service, format!("the function did not finish ({kind}): {message}")),
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Forbidden,
        429 => ErrorKind::Throttled,
        // A stack or a function that does not exist.
        400 | 404 => ErrorKind::Settings,
        _ => ErrorKind::Service,
    }
}

/// The text of the first element with this name.
fn xml_text<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Whether the function ran and failed.
    is_function_error: bool,
    /// The text of the body.
    pub(crate) body: String,
}

/// Sends signed requests to services of AWS.
#[derive(Debug)]
pub(crate) struct SignedRequests {
    region: String,
    config: SdkConfig,
    connector: Connector,
}

impl SignedRequests {
    /// Signs with the credentials of this process.
    pub(crate) async fn new(region: &str) -> Self {
        let timeouts =
            HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        let connector =
            Connector::builder().connector_settings(timeouts).tls_provider(Provider::rustls(CryptoMode::AwsLc)).build();
        Self { region: region.to_owned(), config: Box::pin(sdk_config(region)).await, connector }
    }

    /// Sends a request with these headers, once.
    ///
    /// # Errors
    /// When there are no credentials, or no response arrives. A response that reports an error is returned.
    pub(crate) async fn post(
        &self,
        service: &'static str,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: String,
    ) -> Result<Response> {
        let address = format!("{}{path}", self.endpoint(service).trim_end_matches('/'));
        let failed = |what: &str| Error::new(ErrorKind::Service, format!("cannot {what} {service} at {address}"));
        let provider = self.config.credentials_provider().ok_or_else(|| no_credentials(service))?;
        let keys = provider.provide_credentials().await.map_err(|error| unusable_credentials(service, error))?;
        let identity = keys.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed("sign a request to").with_source(error))?
            .into();
        let signable =
            SignableRequest::new("POST", &address, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| failed("sign a request to").with_source(error))?;
        let (instructions, _) =
            sign(signable, &params).map_err(|error| failed("sign a request to").with_source(error))?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").map_err(|error| failed("send a request to").with_source(error))?;
        request.set_uri(address.clone()).map_err(|error| failed("send a request to").with_source(error))?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, *value);
        }
        for (name, value) in instructions.headers() {
            request.headers_mut().insert(name.to_owned(), value.to_owned());
        }
        let response =
            self.connector.call(request).await.map_err(|error| failed("send a request to").with_source(error))?;
        let status = response.status().as_u16();
        let is_function_error = response.headers().get("x-amz-function-error").is_some();
        let body = ByteStream::new(response.into_body()).collect().await;
        let body = body.map_err(|error| failed("read the response of").with_source(error))?.into_bytes();
        Ok(Response { status, is_function_error, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn endpoint(&self, service: &str) -> String {
        let region = &self.region;
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let own = || format!("https://{service}.{region}.amazonaws.com{suffix}");
        self.config.endpoint_url().map_or_else(own, str::to_owned)
    }
}

fn no_credentials(service: &str) -> Error {
    Error::new(ErrorKind::Settings, format!("there are no AWS credentials to call {service} with"))
}

fn unusable_credentials(service: &str, error: CredentialsError) -> Error {
    match aws_failure::of_credentials(&error) {
        Some(failure) => failure.into_error(&format!("cannot call {service}: {}", failure.what), &error),
        None => no_credentials(service).with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn error_of_the_function_keeps_its_kind() {
        let error = function_error(&json!({"errorType": "file_broken", "errorMessage": "m"}));
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::FileBroken, "m"));
        let error = function_error(&json!({"errorType": "Sandbox.Timedout", "errorMessage": "timed out"}));
        assert_eq!(error.kind(), ErrorKind::Service);
        assert!(error.to_string().contains("Sandbox.Timedout"), "{error}");
    }

    #[test]
    fn name_is_read_from_the_resource_of_the_stack() {
        let xml = "<A><StackName>s</StackName><PhysicalResourceId>s-IngestFunction-1</PhysicalResourceId></A>";
        assert_eq!(xml_text(xml, "PhysicalResourceId"), Some("s-IngestFunction-1"));
        assert_eq!(xml_text(xml, "Message"), None);
    }
}
