//! The alarms of a deployed stack, evaluated over what its functions wrote and its queues contain.
//!
//! MiniStack stores alarms and logs, but extracts no metrics from log lines and ignores dimensions. So the steps of
//! CloudWatch are done here: a metric counts only if namespace, name and all dimensions are those of the alarm, and if it
//! was reported in one of the alarm's periods. An alarm is raised if all its periods breach. `scripts/deploy-local` replaces
//! `FILL(metric, 0)`, which MiniStack does not know, by the metric with periods without data as breaching.
//! The clock is simulated, so that a night takes a minute.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::aws_json::call;
use crate::cloud::Cloud;
use crate::deploy::Deployment;
use crate::queues::QUEUES;

/// The values of one metric that an operation of the tests has caused.
#[derive(Debug, Clone, PartialEq)]
struct Point {
    /// The minute on the simulated clock.
    minute: u32,
    namespace: String,
    name: String,
    dimensions: BTreeMap<String, String>,
    value: f64,
}

/// What a stack has reported so far, on a simulated clock.
#[derive(Debug, Default)]
pub struct History {
    points: Vec<Point>,
    /// The metric lines that were read, and how often each was there. Logs do not keep the order of their lines.
    lines: BTreeMap<String, usize>,
    /// The sums of the metrics of functions that were read, by function and name.
    totals: BTreeMap<(String, String), f64>,
    /// The minute of the uploads, from which the simulated ages are computed.
    uploaded_at: u32,
    /// The minute from which the messages in the queues no longer count for an age: they were received three times.
    poison_from: u32,
}

/// The state of one alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The name of the alarm in the template.
    pub alarm: String,
    /// The name of its metric.
    pub metric: String,
    /// The metric's value in the alarm's latest period; `None` without data.
    pub value: Option<f64>,
    /// Whether the alarm is raised.
    pub is_raised: bool,
}

impl History {
    /// An empty history of a stack whose files are uploaded at this minute.
    ///
    /// From `poison_from` on, every message that is left was received three times. CloudWatch does not count such a message
    /// for the age of the oldest one.
    pub fn of_uploads_at(uploaded_at: u32, poison_from: u32) -> Self {
        Self { uploaded_at, poison_from, ..Self::default() }
    }

    /// Sets the ages that a sweep has measured to those of the simulated clock. What waits was uploaded at one time.
    fn simulate_ages(&self, line: &mut Value, minute: u32) {
        let age = f64::from(minute.saturating_sub(self.uploaded_at) * 60);
        for (count, name) in [("WaitingFiles", "OldestWaitingAge"), ("FallbackFiles", "OldestFallbackAge")] {
            if line[count].as_f64().is_some_and(|files| files > 0.0) {
                line[name] = json!(age);
            }
        }
    }
}

impl Deployment {
    /// The metric lines of the trigger and the ingest function, in the order of the logs.
    pub async fn metric_lines(&self) -> Result<Vec<Value>> {
        let mut lines = Vec::new();
        for output in ["TriggerLogGroupName", "IngestLogGroupName"] {
            lines.extend(self.metric_lines_of(output).await?);
        }
        Ok(lines)
    }

    async fn metric_lines_of(&self, output: &str) -> Result<Vec<Value>> {
        let lines = self.log_lines(output).await?;
        let lines = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        Ok(lines.filter(|line: &Value| line["_aws"].is_object()).collect())
    }

    /// The alarms on Spillway's own metrics that these lines raise, by their names in the template.
    pub async fn raised_alarms(&self, lines: &[Value]) -> Result<Vec<String>> {
        let points: Vec<Point> = lines.iter().flat_map(|line| extracted(line, 0)).collect();
        let alarms = self.alarms().await?;
        let own = alarms.iter().filter(|alarm| alarm["Namespace"] == "Spillway");
        let readings: Result<Vec<Reading>> =
            own.map(|alarm| self.reading(alarm, &points.iter().collect::<Vec<_>>())).collect();
        Ok(raised(&readings?))
    }

    /// Adds what the stack has reported since the last call, as if it had been reported at this minute.
    pub async fn observe(&self, cloud: &Cloud, history: &mut History, minute: u32) -> Result<()> {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for mut line in self.metric_lines().await? {
            let count = found.entry(line.to_string()).or_default();
            *count += 1;
            if *count > history.lines.get(&line.to_string()).copied().unwrap_or_default() {
                history.simulate_ages(&mut line, minute);
                history.points.extend(extracted(&line, minute));
            }
        }
        history.lines = found;
        for output in ["TriggerFunctionName", "IngestFunctionName"] {
            self.observe_function(cloud, history, minute, self.output(output)?).await?;
        }
        for output in QUEUES {
            self.observe_queue(history, minute, output).await?;
        }
        Ok(())
    }

    async fn observe_function(&self, cloud: &Cloud, history: &mut History, minute: u32, function: &str) -> Result<()> {
        // MiniStack counts only invocations through its API.
        let failed = cloud.failed_batches(function)? as f64;
        for name in ["Errors", "Throttles"] {
            let request = json!({
                "Namespace": "AWS/Lambda", "MetricName": name, "Dimensions": [{"Name": "FunctionName", "Value": function}],
                "StartTime": 0, "EndTime": 4_000_000_000_u64, "Period": 86_400, "Statistics": ["Sum"],
            });
            let target = "GraniteServiceVersion20100801.GetMetricStatistics";
            let found = call(&self.account, "monitoring", target, &request).await?;
            let points = found["Datapoints"].as_array().into_iter().flatten();
            let total: f64 = points.filter_map(|point| point["Sum"].as_f64()).sum();
            let total = if name == "Errors" { total + failed } else { total };
            let before = history.totals.insert((function.to_owned(), name.to_owned()), total).unwrap_or_default();
            history.points.push(Point {
                minute,
                namespace: "AWS/Lambda".to_owned(),
                name: name.to_owned(),
                dimensions: [("FunctionName".to_owned(), function.to_owned())].into(),
                value: total - before,
            });
        }
        Ok(())
    }

    async fn observe_queue(&self, history: &mut History, minute: u32, output: &str) -> Result<()> {
        let messages = self.messages(output).await?;
        let name = self.output(output)?.rsplit('/').next().unwrap_or_default();
        let age = if messages.all() > 0 && minute < history.poison_from {
            minute.saturating_sub(history.uploaded_at) * 60
        } else {
            0
        };
        for (metric, value) in [
            ("ApproximateNumberOfMessagesVisible", messages.visible as f64),
            ("ApproximateAgeOfOldestMessage", f64::from(age)),
        ] {
            history.points.push(Point {
                minute,
                namespace: "AWS/SQS".to_owned(),
                name: metric.to_owned(),
                dimensions: [("QueueName".to_owned(), name.to_owned())].into(),
                value,
            });
        }
        Ok(())
    }

    /// The state of every alarm of the stack at this minute, by the names in the template.
    pub async fn readings(&self, history: &History, minute: u32) -> Result<Vec<Reading>> {
        let mut readings = Vec::new();
        for alarm in self.alarms().await? {
            let seconds = alarm["Period"].as_u64().context("an alarm without a period")?;
            let minutes = u32::try_from(seconds / 60)?;
            let periods = alarm["EvaluationPeriods"].as_u64().context("an alarm without evaluation periods")?;
            let mut of_periods = Vec::new();
            for before in 0..u32::try_from(periods)? {
                // The latest period ends at this minute.
                let is_in_period = |point: &&Point| {
                    let minute_after = point.minute + before * minutes;
                    minute_after <= minute && minute_after + minutes > minute
                };
                let points: Vec<&Point> = history.points.iter().filter(is_in_period).collect();
                of_periods.push(self.reading(&alarm, &points)?);
            }
            let is_raised = of_periods.iter().all(|reading| reading.is_raised);
            let latest = of_periods.into_iter().next().context("an alarm without evaluation periods")?;
            readings.push(Reading { is_raised, ..latest });
        }
        readings.sort_by(|left, right| left.alarm.cmp(&right.alarm));
        Ok(readings)
    }

    /// The stack's alarms, as CloudWatch describes them.
    async fn alarms(&self) -> Result<Vec<Value>> {
        let target = "GraniteServiceVersion20100801.DescribeAlarms";
        let described = call(&self.account, "monitoring", target, &json!({})).await?;
        let alarms = described["MetricAlarms"].as_array().context("CloudWatch returned no alarms")?;
        let prefix = format!("{}-", self.stack);
        let is_own = |alarm: &&Value| alarm["AlarmName"].as_str().is_some_and(|name| name.starts_with(&prefix));
        Ok(alarms.iter().filter(is_own).cloned().collect())
    }

    fn reading(&self, alarm: &Value, points: &[&Point]) -> Result<Reading> {
        let name = alarm["AlarmName"].as_str().context("an alarm without a name")?;
        let name = name.strip_prefix(&format!("{}-", self.stack)).unwrap_or(name);
        let value = value(alarm, points)?;
        Ok(Reading {
            alarm: name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned(),
            metric: alarm["MetricName"].as_str().unwrap_or_default().to_owned(),
            value,
            is_raised: is_raised(alarm, value)?,
        })
    }
}

/// The names of the raised alarms, sorted.
pub fn raised(readings: &[Reading]) -> Vec<String> {
    let mut names: Vec<String> =
        readings.iter().filter(|reading| reading.is_raised).map(|reading| reading.alarm.clone()).collect();
    names.sort();
    names
}

/// The metrics of a line in the embedded metric format.
fn extracted(line: &Value, minute: u32) -> Vec<Point> {
    let mut metrics = Vec::new();
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
        for names in directive["Dimensions"].as_array().into_iter().flatten() {
            let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
            let dimensions: BTreeMap<String, String> =
                names.map(|name| (name.to_owned(), line[name].as_str().unwrap_or_default().to_owned())).collect();
            for metric in directive["Metrics"].as_array().into_iter().flatten() {
                let name = metric["Name"].as_str().unwrap_or_default();
                metrics.push(Point {
                    minute,
                    namespace: directive["Namespace"].as_str().unwrap_or_default().to_owned(),
                    name: name.to_owned(),
                    dimensions: dimensions.clone(),
                    value: line[name].as_f64().unwrap_or_default(),
                });
            }
        }
    }
    metrics
}

/// The value of the alarm's metric over the points of one period; `None` without points of the metric.
fn value(alarm: &Value, points: &[&Point]) -> Result<Option<f64>> {
    let dimensions: BTreeMap<String, String> = alarm["Dimensions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|dimension| Some((dimension["Name"].as_str()?.to_owned(), dimension["Value"].as_str()?.to_owned())))
        .collect();
    let is_of_alarm = |point: &&&Point| {
        alarm["Namespace"] == point.namespace.as_str()
            && alarm["MetricName"] == point.name.as_str()
            && point.dimensions == dimensions
    };
    let values: Vec<f64> = points.iter().filter(is_of_alarm).map(|point| point.value).collect();
    if values.is_empty() {
        return Ok(None);
    }
    Ok(Some(match alarm["Statistic"].as_str().context("an alarm without a statistic")? {
        "Sum" => values.iter().sum(),
        "Maximum" => values.iter().copied().fold(f64::MIN, f64::max),
        other => bail!("this test cannot evaluate the statistic {other}"),
    }))
}

/// Whether this value of its metric raises the alarm.
fn is_raised(alarm: &Value, value: Option<f64>) -> Result<bool> {
    let Some(value) = value else { return Ok(alarm["TreatMissingData"] == "breaching") };
    let threshold = alarm["Threshold"].as_f64().context("an alarm without a threshold")?;
    Ok(match alarm["ComparisonOperator"].as_str() {
        Some("GreaterThanThreshold") => value > threshold,
        Some("LessThanThreshold") => value < threshold,
        other => bail!("this test cannot evaluate the operator {other:?}"),
    })
}
