//! The declared settings and `template.yaml` agree.

use std::collections::{BTreeMap, BTreeSet};

use super::setting::{Category, Declared, ReadBy, Template};
use super::{Environment, IngestSettings, TriggerSettings, settings};
use crate::pipeline::DatabaseAccess;
use crate::secret::CredentialSettings;

/// Parameters that have a default although the setting has none: a task needs a size.
const ONLY_THE_PARAMETER_HAS_A_DEFAULT: [&str; 2] = ["TaskCpu", "TaskMemory"];

/// Parameters that are empty by default, and the reason why they differ from the setting's default.
const EMPTY_PARAMETERS: [(&str, &str); 3] = [
    ("GlueDatabase", "the template then generates a name, so that two stacks in one account do not share tables"),
    ("LakeDatabase", "for the same reason"),
    ("RawDatabase", "for the same reason"),
];

/// Parameters that allow less than the setting, and why.
const NARROWER: [(&str, &str); 2] = [
    ("DatabaseRetrySeconds", "the trigger function also needs time to write the fallback"),
    ("LogLevel", "Lambda does not accept the level off"),
];

/// Variables that AWS Lambda sets and does not allow a template to set.
const SET_BY_LAMBDA: &str = "AWS_REGION";

/// The parts of the template that concern settings.
struct TemplateFile {
    parameters: BTreeMap<&'static str, Parameter>,
    /// Variables of both functions, with their expressions.
    functions: BTreeMap<&'static str, &'static str>,
    /// Variables that only `sam local invoke` sets.
    local: Vec<&'static str>,
    /// Variables of the trigger function alone.
    trigger: BTreeMap<&'static str, &'static str>,
    /// Variables of the task.
    task: BTreeMap<&'static str, &'static str>,
}

#[derive(Default)]
struct Parameter {
    default: &'static str,
    allowed: Option<Vec<&'static str>>,
    min: Option<u64>,
    max: Option<u64>,
}

impl TemplateFile {
    fn read() -> Self {
        let text = include_str!("../../../../template.yaml");
        let trigger = section(section(text, "  TriggerFunction:"), "      Environment:");
        let mut functions = variables(section(section(text, "Globals:"), "    Environment:"));
        let local = remove_local(&mut functions);
        Self {
            parameters: parameters(section(text, "Parameters:")),
            functions,
            local,
            trigger: variables(trigger),
            task: variables(section(section(text, "  TaskDefinition:"), "          Environment:")),
        }
    }

    /// The variables that the template sets, with their expressions.
    fn variables(&self) -> [&BTreeMap<&'static str, &'static str>; 3] {
        [&self.functions, &self.trigger, &self.task]
    }
}

/// The lines below a heading that are indented more than the heading.
fn section(text: &'static str, heading: &str) -> &'static str {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading:?}"));
    let body = &text[start + heading.len() + 2..];
    let indent = heading.len() - heading.trim_start().len();
    let mut end = 0;
    for line in body.split_inclusive('\n') {
        let is_inside = line.trim().is_empty() || line.len() - line.trim_start().len() > indent;
        if !is_inside {
            break;
        }
        end += line.len();
    }
    &body[..end]
}

fn parameters(text: &'static str) -> BTreeMap<&'static str, Parameter> {
    let mut parameters: BTreeMap<&str, Parameter> = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let Some((key, value)) = line.trim().split_once(':') else { continue };
        if indent == 2 {
            name = key;
        }
        if indent != 4 {
            continue;
        }
        let parameter = parameters.entry(name).or_default();
        match key {
            "Default" => parameter.default = scalar(value),
            "AllowedValues" => {
                let items = value.trim().trim_start_matches('[').trim_end_matches(']');
                parameter.allowed = Some(items.split(',').map(scalar).collect());
            }
            "MinValue" => parameter.min = value.trim().parse().ok(),
            "MaxValue" => parameter.max = value.trim().parse().ok(),
            _ => {}
        }
    }
    parameters
}

fn scalar(text: &'static str) -> &'static str {
    let text = text.trim();
    let quoted = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(text)
}

/// Variables in each of the forms that the template has: `NAME: value`, `{ Name: NAME, Value: value }`, and `Name` and
/// `Value` on two lines.
fn variables(text: &'static str) -> BTreeMap<&'static str, &'static str> {
    let mut variables = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        if let Some((_, after)) = line.split_once("Name: ") {
            let (name, value) = after.split_once(", Value: ").unwrap_or_else(|| (after, lines.next().unwrap_or("")));
            variables.insert(name, value);
        } else if let Some((name, value)) = line.trim().split_once(": ") {
            variables.insert(name, value);
        }
    }
    variables
}

/// Removes the variables that no deployed function has, and returns their names.
fn remove_local(variables: &mut BTreeMap<&'static str, &'static str>) -> Vec<&'static str> {
    let is_local = |expression: &str| expression == "!Ref AWS::NoValue";
    let names = variables.iter().filter(|(_, expression)| is_local(expression)).map(|(name, _)| *name).collect();
    variables.retain(|_, expression| !is_local(expression));
    names
}

/// Whether an expression refers to a parameter or a resource.
fn refers_to(expression: &str, name: &str) -> bool {
    let marker = format!("!Ref {name}");
    expression.match_indices(&marker).any(|(start, _)| {
        !expression[start + marker.len()..].starts_with(|next: char| next.is_ascii_alphanumeric() || next == ':')
    })
}

fn declared(name: &str) -> &'static dyn Declared {
    let found = settings::all().find(|setting| setting.info().name == name);
    found.unwrap_or_else(|| panic!("template.yaml sets {name}, which is not declared"))
}

#[test]
fn the_template_sets_only_declared_settings_from_their_own_parameters() {
    let template = TemplateFile::read();
    for (name, expression) in template.variables().into_iter().flatten() {
        let from: Vec<&str> =
            template.parameters.keys().filter(|parameter| refers_to(expression, parameter)).copied().collect();
        match declared(name).info().template {
            Template::Parameter(parameter) => assert!(from.contains(&parameter), "{name}: {expression}"),
            Template::Fixed => assert!(from.is_empty(), "{name} has a parameter: {expression}"),
            Template::NotSet => panic!("{name} is declared as not set by the template, which sets it: {expression}"),
        }
    }
}

#[test]
fn the_template_sets_each_setting_for_each_program_that_reads_it() {
    let template = TemplateFile::read();
    for setting in settings::all() {
        let info = setting.info();
        if info.template == Template::NotSet {
            continue;
        }
        let (functions, task) = match info.read_by {
            ReadBy::All | ReadBy::IngestAndTask => (info.name != SET_BY_LAMBDA, true),
            ReadBy::Functions => (true, false),
            ReadBy::Trigger => {
                assert!(template.trigger.contains_key(info.name), "the trigger function lacks {}", info.name);
                (false, false)
            }
            ReadBy::Task => (false, true),
            ReadBy::Stream
            | ReadBy::Exports
            | ReadBy::ExportsAndCommandLine
            | ReadBy::CommandLine
            | ReadBy::TestBuilds => {
                panic!("{} is not for deployed programs, and the template sets it", info.name)
            }
        };
        assert_eq!(template.functions.contains_key(info.name), functions, "functions: {}", info.name);
        assert_eq!(template.task.contains_key(info.name), task, "task: {}", info.name);
    }
}

#[test]
fn functions_and_task_get_the_same_values() {
    let template = TemplateFile::read();
    for (name, expression) in &template.functions {
        let Some(other) = template.task.get(name) else { continue };
        let parameters = |expression: &str| -> BTreeSet<&str> {
            template.parameters.keys().filter(|parameter| refers_to(expression, parameter)).copied().collect()
        };
        assert_eq!(parameters(expression), parameters(other), "{name}");
    }
}

#[test]
fn a_parameter_has_the_default_of_its_setting() {
    let template = TemplateFile::read();
    for setting in settings::all() {
        let Template::Parameter(name) = setting.info().template else { continue };
        let parameter = template.parameters.get(name).unwrap_or_else(|| panic!("no parameter {name}"));
        if ONLY_THE_PARAMETER_HAS_A_DEFAULT.contains(&name) {
            assert!(setting.info().default.is_none() && setting.is_accepted(parameter.default), "{name}");
            continue;
        }
        if EMPTY_PARAMETERS.iter().any(|(empty, _)| *empty == name) {
            assert_eq!(parameter.default, "", "{name}");
            continue;
        }
        let default = setting.info().default.unwrap_or_default();
        // A word may be in capitals, as AWS writes it.
        let is_same = parameter.default == default
            || setting.choices().is_some() && parameter.default.eq_ignore_ascii_case(default);
        assert!(is_same, "{name} defaults to {:?}, {} to {default:?}", parameter.default, setting.info().name);
    }
}

#[test]
fn a_parameter_allows_what_its_setting_accepts() {
    let template = TemplateFile::read();
    for setting in settings::all() {
        let Template::Parameter(name) = setting.info().template else { continue };
        let parameter = &template.parameters[name];
        let is_narrower = NARROWER.iter().any(|(narrower, _)| *narrower == name);
        let allowed: Vec<&str> = parameter.allowed.iter().flatten().copied().filter(|word| !word.is_empty()).collect();
        for word in &allowed {
            assert!(setting.is_accepted(word), "{name} allows {word:?}, which {} rejects", setting.info().name);
        }
        for word in setting.choices().into_iter().flatten() {
            let is_allowed = allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(word));
            assert!(is_allowed || is_narrower, "{name} does not allow {word:?}");
        }
        if let Some((min, max)) = setting.range() {
            let range = (parameter.min.unwrap_or(0), parameter.max.unwrap_or(u64::MAX));
            let is_within = range.0 >= min && range.1 <= max;
            // The task's sizes are words of a list, which were checked above.
            // A number that may be left out is a text.
            let may_be_empty = parameter.default.is_empty();
            let is_checked = !allowed.is_empty() || may_be_empty || ONLY_THE_PARAMETER_HAS_A_DEFAULT.contains(&name);
            assert!(range == (min, max) || is_checked || is_narrower && is_within, "{name}: {range:?}");
        }
    }
}

/// `sam local invoke` passes only variables that the template lists. With empty values for the others, the variables of
/// `events/env.json` are settings of both functions.
#[test]
fn variables_for_local_invocations_are_complete() {
    let template = TemplateFile::read();
    let text = include_str!("../../../../events/env.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut pairs = Vec::new();
    for (name, value) in document["Parameters"].as_object().unwrap() {
        let is_listed =
            [&template.functions, &template.trigger].iter().any(|variables| variables.contains_key(name.as_str()));
        assert!(is_listed || template.local.contains(&name.as_str()), "the template does not list {name}");
        pairs.push((name.as_str(), value.as_str().unwrap()));
    }
    let environment = Environment::of(&pairs);
    let trigger = TriggerSettings::read(&environment).unwrap();
    assert!(matches!(trigger.pipeline.database.access, DatabaseAccess::Login(CredentialSettings::Inline(_))));
    assert!(trigger.launch.is_none() && trigger.upload_queue_url.is_none());
    assert_eq!(IngestSettings::read(&environment).unwrap().bucket, "spillway-data");
}

/// SAM cannot evaluate `AWS::NoValue` in a condition, and passes an empty value in its place.
#[test]
fn no_variable_of_a_function_depends_on_no_value() {
    let template = TemplateFile::read();
    for (name, expression) in template.functions.iter().chain(&template.trigger) {
        assert!(!expression.contains("AWS::NoValue"), "{name}: {expression}");
    }
    assert_eq!(template.local, ["AWS_ENDPOINT_URL", "RDS_PASSWORD"]);
}

/// The guide names each setting that a deployment cannot change, except those of requests, logs, platform and tests.
#[test]
fn guide_names_each_setting_without_a_parameter() {
    let guide = include_str!("../../../../docs/deploy.md");
    let local = TemplateFile::read().local;
    for info in settings::all().map(|setting| setting.info()) {
        let is_of_deployment =
            !matches!(info.category, Category::Request | Category::Logs | Category::Platform | Category::Testing);
        if info.template == Template::NotSet && is_of_deployment && !local.contains(&info.name) {
            assert!(guide.contains(&format!("`{}`", info.name)), "docs/deploy.md does not name {}", info.name);
        }
    }
}

/// With a wrong variable or metric, the transform would not start, and its alarms would stay silent.
#[test]
fn streaming_template_uses_settings_and_metrics_that_exist() {
    let text = include_str!("../../../../templates/streaming.yaml");
    let variables = variables(section(section(text, "  TransformFunction:"), "      Environment:"));
    for (name, parameter) in [
        ("STREAM_TABLE_FIELD", "TableField"),
        ("STREAM_TABLES", "Tables"),
        ("STREAM_KEY_FIELDS", "KeyFields"),
        ("LOG_LEVEL", "LogLevel"),
    ] {
        assert!(refers_to(variables[name], parameter), "{name}");
    }
    for name in variables.keys() {
        declared(name);
    }
    let metrics = include_str!("../metrics.rs");
    let alarms: Vec<&str> = text.split("Namespace: Spillway\n").skip(1).collect();
    assert!(!alarms.is_empty());
    for alarm in alarms {
        let name = alarm.trim_start().lines().next().unwrap().trim_start_matches("MetricName: ");
        assert!(metrics.contains(&format!("(\"{name}\"")), "{name}");
    }
}

/// With a wrong variable, the function would not import exports, or with other settings than those of the parameters.
#[test]
fn exports_template_uses_settings_that_exist() {
    let text = include_str!("../../../../templates/exports.yaml");
    let variables = variables(section(section(text, "  ExportsFunction:"), "      Environment:"));
    for name in variables.keys() {
        declared(name);
    }
    let of_exports = settings::all().map(Declared::info).filter(|info| info.category == Category::Exports);
    for info in of_exports {
        assert!(variables.contains_key(info.name), "the template does not set {}", info.name);
    }
    let parameters = parameters(section(text, "Parameters:"));
    for (name, parameter) in [
        ("EXPORT_QUIET_SECONDS", "QuietSeconds"),
        ("EXPORT_MAX_DELETES", "MaxDeletes"),
        ("EXPORT_REGISTRY_PREFIX", "RegistryPrefix"),
        ("EXPORT_DELTA_PREFIX", "DeltaPrefix"),
    ] {
        assert!(refers_to(variables[name], parameter), "{name}");
        assert_eq!(parameters[parameter].default, declared(name).info().default.unwrap(), "{parameter}");
    }
}

/// Returns the metrics of a dashboard widget: namespace, name and last dimension. `.` and `...` repeat the values above.
fn metrics_of(widget: &serde_json::Value) -> Vec<[String; 3]> {
    let mut found: Vec<[String; 3]> = Vec::new();
    for metric in widget["properties"]["metrics"].as_array().unwrap() {
        let texts: Vec<&str> = metric.as_array().unwrap().iter().filter_map(|part| part.as_str()).collect();
        let Some(last) = texts.last() else { continue };
        let above = found.last().cloned().unwrap_or_default();
        let value = |index: usize| match texts[0] {
            "..." => above[index].clone(),
            _ if texts[index] == "." => above[index].clone(),
            _ => texts[index].to_owned(),
        };
        found.push([value(0), value(1), (*last).to_owned()]);
    }
    found
}

/// Alarms and dashboard show metrics that Spillway writes. With a wrong name they would stay empty, without an error.
#[test]
fn alarms_and_dashboard_use_metrics_that_exist() {
    let text = include_str!("../../../../template.yaml");
    let (metrics, report) = (include_str!("../metrics.rs"), include_str!("../report.rs"));
    let body = section(section(text, "  Dashboard:"), "      DashboardBody: !Sub |");
    let dashboard: serde_json::Value = serde_json::from_str(body).unwrap();
    let shown: Vec<_> = dashboard["widgets"].as_array().unwrap().iter().flat_map(metrics_of).collect();
    let own: Vec<_> = shown.iter().filter(|[namespace, ..]| namespace == "Spillway").collect();
    let alarms = text.split("Namespace: Spillway\n").skip(1).map(|rest| rest.lines().next().unwrap());
    let named = alarms.map(|line| line.trim().strip_prefix("MetricName: ").unwrap());
    for name in own.iter().map(|[_, name, _]| name.as_str()).chain(named) {
        assert!(metrics.contains(&format!("(\"{name}\", \"")), "no metric {name}");
    }
    let outcomes: Vec<_> = own.iter().filter(|[_, name, _]| name == "Objects").map(|[.., outcome]| outcome).collect();
    assert_eq!(outcomes.len(), 7);
    for outcome in outcomes {
        assert!(report.contains(&format!("=> \"{outcome}\"")), "no outcome {outcome}");
    }
}

#[test]
fn whole_template_is_read() {
    let template = TemplateFile::read();
    assert_eq!((template.parameters.len(), template.functions.len(), template.task.len()), (98, 65, 59));
    assert_eq!(template.parameters["CsvQuote"].allowed, Some(vec!["\"", "'", "none"]));
    assert_eq!(template.parameters["MaxDecodedRatio"].max, Some(1_000_000));
    assert_eq!(template.trigger.keys().copied().collect::<Vec<_>>(), ["INLINE_MAX_BYTES"]);
}
