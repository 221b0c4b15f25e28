//! Events about outcomes on an EventBridge bus, for programs that continue when a file is loaded, and for alerts.
//!
//! Best effort: the ledger is the record of what happened, and a lost event never fails a load. Without `EVENT_BUS` no event
//! is published and no request is sent.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde::Serialize;
use serde_json::json;
use tracing::warn;

use crate::error::{Error, chain};
use crate::policy::policy;
use crate::report::{Outcome, Report};

/// The source of all events.
const SOURCE: &str = "spillway";
/// The most entries in one request. Source: the API reference of `PutEvents`.
const MAX_ENTRIES: usize = 10;
/// Limit for one request, so that a network without a path to EventBridge delays a load but does not stop it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutcomeEvent {
    detail_type: &'static str,
    /// JSON.
    detail: String,
}

/// The detail of an event about an object with an outcome.
#[derive(Serialize)]
struct ReportDetail<'a> {
    stack: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// The bus that the settings name. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct EventBus {
    client: Client,
    bus: String,
    stack: String,
}

impl EventBus {
    /// The bus with this name or ARN, and the stack's name for the events.
    pub(crate) fn new(config: &SdkConfig, bus: String, stack: String) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
        let settings = aws_sdk_eventbridge::config::Builder::from(config).timeout_config(timeouts);
        Self { client: Client::from_conf(settings.build()), bus, stack }
    }

    /// Publishes the events about reports and failures. A failure to publish is logged.
    pub(crate) async fn publish(&self, reports: &[Report], failures: &[Error]) {
        let events: Vec<OutcomeEvent> = reports
            .iter()
            .flat_map(|report| of_report(&self.stack, report))
            .chain(failures.iter().filter_map(|failure| of_failure(&self.stack, failure)))
            .collect();
        for chunk in events.chunks(MAX_ENTRIES) {
            self.put(chunk).await;
        }
    }

    async fn put(&self, events: &[OutcomeEvent]) {
        let entries = events.iter().map(|event| {
            PutEventsRequestEntry::builder()
                .source(SOURCE)
                .detail_type(event.detail_type)
                .detail(&event.detail)
                .event_bus_name(&self.bus)
                .build()
        });
        let rejected = match self.client.put_events().set_entries(Some(entries.collect())).send().await {
            Ok(response) => response.entries().iter().find_map(|entry| entry.error_message().map(str::to_owned)),
            Err(error) => Some(DisplayErrorContext(error).to_string()),
        };
        if let Some(error) = rejected {
            warn!(error, events = events.len(), "failed to publish events about outcomes");
        }
    }
}

/// The events about an object with an outcome: one for the outcome, one more if an operator must act.
fn of_report(stack: &str, report: &Report) -> Vec<OutcomeEvent> {
    let of_outcome = match report.outcome {
        Outcome::Loaded => Some("Loaded"),
        Outcome::FellBack => Some("FellBack"),
        Outcome::Rejected => Some("Rejected"),
        Outcome::Replayed => Some("Replayed"),
        // Another attempt, another worker or a newer file has the outcome that matters.
        Outcome::AlreadyLoaded | Outcome::Superseded | Outcome::Skipped | Outcome::HandedOver => None,
    };
    let attention = report.needs_attention.then_some("NeedsAttention");
    let detail = serde_json::to_string(&ReportDetail { stack, report }).unwrap_or_default();
    of_outcome
        .into_iter()
        .chain(attention)
        .map(|detail_type| OutcomeEvent { detail_type, detail: detail.clone() })
        .collect()
}

/// The event about an object that failed, if an operator must act.
fn of_failure(stack: &str, failure: &Error) -> Option<OutcomeEvent> {
    let policy = policy(failure.kind());
    let detail = json!({"stack": stack, "kind": failure.kind().name(), "reason": chain(failure), "hint": policy.hint});
    policy.alert.then(|| OutcomeEvent { detail_type: "NeedsAttention", detail: detail.to_string() })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;
    use crate::error::ErrorKind;
    use crate::object::ObjectRef;

    #[rstest]
    #[case(Outcome::Loaded, false, &["Loaded"])]
    #[case(Outcome::FellBack, true, &["FellBack", "NeedsAttention"])]
    #[case(Outcome::Rejected, false, &["Rejected"])]
    #[case(Outcome::Replayed, false, &["Replayed"])]
    #[case(Outcome::AlreadyLoaded, false, &[])]
    #[case(Outcome::HandedOver, false, &[])]
    fn each_outcome_has_its_events(#[case] outcome: Outcome, #[case] attention: bool, #[case] expected: &[&str]) {
        let mut report = Report::new(ObjectRef::new("b", "k"), outcome);
        report.needs_attention = attention;
        let events = of_report("orders", &report);
        assert_eq!(events.iter().map(|event| event.detail_type).collect::<Vec<_>>(), expected);
        for event in events {
            let detail: Value = serde_json::from_str(&event.detail).unwrap();
            assert_eq!(detail["stack"], "orders");
            assert_eq!(detail["object"]["key"], "k");
            assert_eq!(detail["outcome"], outcome.name());
        }
    }

    #[test]
    fn only_a_failure_that_an_operator_must_mend_has_an_event() {
        let forbidden = of_failure("orders", &Error::new(ErrorKind::Forbidden, "no access")).unwrap();
        assert_eq!(forbidden.detail_type, "NeedsAttention");
        assert!(forbidden.detail.contains("no access"), "{}", forbidden.detail);
        assert_eq!(of_failure("orders", &Error::new(ErrorKind::Throttled, "slow down")), None);
    }
}
