//! The alarms of a deployed stack, evaluated over the metric lines that its functions wrote.
//!
//! MiniStack stores alarms and logs, but extracts no metrics from log lines and ignores dimensions. So the two steps of
//! CloudWatch are done here: a metric counts only if namespace, name and all dimensions are those of the alarm.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::aws_json::call;
use crate::deploy::{Deployment, STACK};

/// A metric as CloudWatch extracts it: namespace, name, dimensions, value.
type Metric = (String, String, BTreeMap<String, String>, f64);

impl Deployment {
    /// The metric lines of the trigger and the ingest function, in the order of the logs.
    pub async fn metric_lines(&self) -> Result<Vec<Value>> {
        let mut lines = Vec::new();
        for output in ["TriggerLogGroupName", "IngestLogGroupName"] {
            let request = json!({"logGroupName": self.output(output)?, "limit": 10_000});
            let events = call(&self.account, "logs", "Logs_20140328.FilterLogEvents", &request).await?;
            for event in events["events"].as_array().into_iter().flatten() {
                let line: Option<Value> =
                    event["message"].as_str().and_then(|message| serde_json::from_str(message.trim()).ok());
                lines.extend(line.filter(|line| line["_aws"].is_object()));
            }
        }
        Ok(lines)
    }

    /// The alarms on Spillway's own metrics that these lines raise, by their names in the template.
    pub async fn raised_alarms(&self, lines: &[Value]) -> Result<Vec<String>> {
        let metrics: Vec<Metric> = lines.iter().flat_map(extracted).collect();
        let described =
            call(&self.account, "monitoring", "GraniteServiceVersion20100801.DescribeAlarms", &json!({})).await?;
        let alarms = described["MetricAlarms"].as_array().context("CloudWatch returned no alarms")?;
        let mut raised = Vec::new();
        for alarm in alarms.iter().filter(|alarm| alarm["Namespace"] == "Spillway") {
            if is_raised(alarm, &metrics)? {
                let name = alarm["AlarmName"].as_str().context("an alarm without a name")?;
                let name = name.strip_prefix(&format!("{STACK}-")).unwrap_or(name);
                raised.push(name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned());
            }
        }
        raised.sort();
        Ok(raised)
    }
}

/// The metrics of a line in the embedded metric format.
fn extracted(line: &Value) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
        for names in directive["Dimensions"].as_array().into_iter().flatten() {
            let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
            let dimensions: BTreeMap<String, String> =
                names.map(|name| (name.to_owned(), line[name].as_str().unwrap_or_default().to_owned())).collect();
            for metric in directive["Metrics"].as_array().into_iter().flatten() {
                let name = metric["Name"].as_str().unwrap_or_default();
                let namespace = directive["Namespace"].as_str().unwrap_or_default().to_owned();
                metrics.push((namespace, name.to_owned(), dimensions.clone(), line[name].as_f64().unwrap_or_default()));
            }
        }
    }
    metrics
}

/// Whether the metrics, taken as those of one period, raise the alarm.
fn is_raised(alarm: &Value, metrics: &[Metric]) -> Result<bool> {
    let dimensions: BTreeMap<String, String> = alarm["Dimensions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|dimension| Some((dimension["Name"].as_str()?.to_owned(), dimension["Value"].as_str()?.to_owned())))
        .collect();
    let values: Vec<f64> = metrics
        .iter()
        .filter(|(namespace, name, found, _)| {
            alarm["Namespace"] == namespace.as_str() && alarm["MetricName"] == name.as_str() && *found == dimensions
        })
        .map(|(.., value)| *value)
        .collect();
    if values.is_empty() {
        return Ok(alarm["TreatMissingData"] == "breaching");
    }
    let value = match alarm["Statistic"].as_str().context("an alarm without a statistic")? {
        "Sum" => values.iter().sum(),
        "Maximum" => values.iter().copied().fold(f64::MIN, f64::max),
        other => anyhow::bail!("this test cannot evaluate the statistic {other}"),
    };
    let threshold = alarm["Threshold"].as_f64().context("an alarm without a threshold")?;
    Ok(match alarm["ComparisonOperator"].as_str() {
        Some("GreaterThanThreshold") => value > threshold,
        Some("LessThanThreshold") => value < threshold,
        other => anyhow::bail!("this test cannot evaluate the operator {other:?}"),
    })
}
