//! The options that select runs.

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use spillway_core::error::{Error, ErrorKind, Result};

/// Which runs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which runs")]
pub(crate) struct Filter {
    /// Only runs since this time: 2026-11-20, 2026-11-20T08:30:00Z, or an age such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only runs before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only runs with this outcome
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<Outcome>,
    /// Only runs of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only runs of keys that begin with this text
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
}

/// The outcomes, as the options name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The rows are in the table
    Loaded,
    /// The same bytes were loaded before
    Duplicate,
    /// A newer file had replaced the table
    Superseded,
    /// The rows were written to the fallback
    FellBack,
    /// The file was rejected
    Rejected,
    /// The attempt failed, and the file stayed in place
    Failed,
}

impl Filter {
    /// The fields of the request.
    pub(super) fn fields(&self) -> Result<Value> {
        let mut fields = json!({});
        for (name, value) in [("since", &self.since), ("until", &self.until)] {
            if let Some(text) = value {
                fields[name] = json!(time(text, Timestamp::now())?);
            }
        }
        for (name, value) in
            [("outcome", self.outcome_name()), ("table", self.table.clone()), ("key_prefix", self.key_prefix.clone())]
        {
            if let Some(text) = value {
                fields[name] = json!(text);
            }
        }
        Ok(fields)
    }

    /// The selection in words, for the report page.
    pub(super) fn description(&self) -> Vec<String> {
        let parts = [
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("outcome", self.outcome_name()),
            ("table", self.table.clone()),
            ("keys that begin with", self.key_prefix.clone()),
        ];
        parts.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value}"))).collect()
    }

    fn outcome_name(&self) -> Option<String> {
        self.outcome.and_then(|outcome| outcome.to_possible_value()).map(|value| value.get_name().to_owned())
    }
}

/// A time: an age becomes a timestamp, and the function parses any other text.
fn time(text: &str, now: Timestamp) -> Result<String> {
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let hours = match unit {
        "m" | "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return Ok(text.to_owned()),
    };
    let Ok(count) = number.parse::<u32>() else { return Ok(text.to_owned()) };
    let age = match unit {
        "m" => SignedDuration::from_mins(count.into()),
        _ => SignedDuration::from_hours(hours * i64::from(count)),
    };
    let time = now
        .checked_sub(age)
        .map_err(|error| Error::new(ErrorKind::EventInvalid, format!("{text} ago is not a time")).with_source(error))?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_become_timestamps_and_other_texts_stay() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let of = |text| time(text, now).unwrap();
        assert_eq!(of("90m"), "2026-11-20T10:30:00Z");
        assert_eq!(of("24h"), "2026-11-19T12:00:00Z");
        assert_eq!(of("7d"), "2026-11-13T12:00:00Z");
        assert_eq!(of("1w"), of("7d"));
        for text in ["2026-11-20", "2026-11-20T08:30:00Z", "d", "-1d", "é", ""] {
            assert_eq!(of(text), text);
        }
    }

    #[test]
    fn filter_becomes_the_fields_of_the_request() {
        let filter = Filter { outcome: Some(Outcome::FellBack), table: Some("orders".into()), ..Filter::default() };
        assert_eq!(filter.fields().unwrap(), json!({"outcome": "fell_back", "table": "orders"}));
        assert_eq!(filter.description(), ["outcome fell_back", "table orders"]);
    }
}
