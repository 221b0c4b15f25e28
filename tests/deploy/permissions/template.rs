//! Evaluates the conditions and intrinsic functions of `template.yaml` for one set of parameters.
//!
//! SAM's parser reads the YAML, so tags such as `!Sub` have the same meaning as in a deployment. A resource has no ARN before
//! it is deployed, so `Ref` of a resource returns its logical name, and `GetAtt` returns `Name.Attribute`.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use spillway_test_env::run;

use super::policy::{Role, Statement};

/// The account in every ARN.
pub(super) const ACCOUNT: &str = "111122223333";
/// The region in every ARN.
pub(super) const REGION: &str = "us-east-1";

/// The id of the stack.
const STACK_ID: &str =
    "arn:aws:cloudformation:us-east-1:111122223333:stack/spillway/0a1b2c3d-1111-2222-3333-444455556666";

const PARSER: &str = "import json, sys; from samtranslator.yaml_helper import yaml_parse; \
                      json.dump(yaml_parse(open(sys.argv[1]).read()), sys.stdout)";

/// The template and the values of its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    document: Arc<Value>,
    parameters: BTreeMap<String, String>,
}

impl Template {
    /// Reads the template of the workspace. Other parameters have their defaults.
    pub(crate) fn read(parameters: &[(&str, &str)]) -> Result<Self> {
        Self::read_file("template.yaml", parameters)
    }

    /// Reads a template of the workspace. Other parameters have their defaults.
    pub(crate) fn read_file(path: &str, parameters: &[(&str, &str)]) -> Result<Self> {
        let output = Command::new(run::tool("python")?)
            .args(["-c", PARSER])
            .arg(run::workspace().join(path))
            .output()
            .context("cannot run SAM's parser")?;
        ensure!(output.status.success(), "SAM cannot parse the template: {}", String::from_utf8_lossy(&output.stderr));
        let document: Arc<Value> = Arc::new(serde_json::from_slice(&output.stdout)?);
        let declared = document["Parameters"].as_object().context("the template has no parameters")?;
        let default = |(name, declaration): (&String, &Value)| Some((name.clone(), plain(&declaration["Default"])?));
        let defaults = declared.iter().filter_map(default).collect();
        Self { document: Arc::clone(&document), parameters: defaults }.with(parameters)
    }

    /// The same template with other values of these parameters.
    pub(crate) fn with(mut self, parameters: &[(&str, &str)]) -> Result<Self> {
        for (name, value) in parameters {
            ensure!(!self.document["Parameters"][*name].is_null(), "the template has no parameter {name:?}");
            self.parameters.insert((*name).to_owned(), (*value).to_owned());
        }
        Ok(self)
    }

    /// The parsed template.
    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// Whether a condition of the template holds.
    pub(crate) fn holds(&self, condition: &str) -> Result<bool> {
        let definition = &self.document["Conditions"][condition];
        ensure!(!definition.is_null(), "the template has no condition {condition}");
        self.truth(definition)
    }

    /// The descriptions of the assertions that these parameters do not fulfil. A deployment with them is refused.
    pub(crate) fn broken_rules(&self) -> Result<Vec<String>> {
        let mut broken = Vec::new();
        for rule in self.document["Rules"].as_object().context("the template has no rules")?.values() {
            let condition = &rule["RuleCondition"];
            if !condition.is_null() && !self.truth(condition)? {
                continue;
            }
            for assertion in list(&rule["Assertions"]) {
                if !self.truth(&assertion["Assert"])? {
                    broken.push(assertion["AssertDescription"].as_str().unwrap_or_default().to_owned());
                }
            }
        }
        Ok(broken)
    }

    /// The value of a string parameter.
    pub(super) fn parameter(&self, name: &str) -> Result<&str> {
        self.parameters.get(name).map(String::as_str).with_context(|| format!("the parameter {name} has no value"))
    }

    /// The roles of the template, each with all statements that apply to it.
    pub(super) fn roles(&self) -> Result<Vec<Role>> {
        let resources = self.document["Resources"].as_object().context("the template has no resources")?;
        let roles = resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::IAM::Role");
        roles.map(|(name, role)| self.role(name, &role["Properties"])).collect()
    }

    /// The policies of the buckets, queues and topics that these parameters create, by the name of the resource.
    pub(super) fn resource_policies(&self) -> Result<BTreeMap<String, Value>> {
        let types = [
            ("AWS::S3::BucketPolicy", "Bucket"),
            ("AWS::SQS::QueuePolicy", "Queues"),
            ("AWS::SNS::TopicPolicy", "Topics"),
        ];
        let mut policies = BTreeMap::new();
        for resource in self.document["Resources"].as_object().context("the template has no resources")?.values() {
            let Some((_, owner)) = types.iter().find(|(name, _)| resource["Type"] == *name) else { continue };
            if resource["Condition"].as_str().is_some_and(|condition| !matches!(self.holds(condition), Ok(true))) {
                continue;
            }
            let properties = self.resolve(&resource["Properties"])?.context("a policy without properties")?;
            for name in list(&properties[*owner]) {
                let name = name.as_str().context("the resource of a policy has no name")?;
                policies.insert(name.to_owned(), properties["PolicyDocument"].clone());
            }
        }
        Ok(policies)
    }

    fn role(&self, name: &str, properties: &Value) -> Result<Role> {
        let properties = self.resolve(properties)?.context("a role without properties")?;
        let mut statements = Vec::new();
        for managed in list(&properties["ManagedPolicyArns"]) {
            let managed = managed.as_str().context("the name of a managed policy is not a string")?;
            let policy = &self.document["Resources"][managed]["Properties"]["PolicyDocument"];
            ensure!(!policy.is_null(), "{name} has a policy that this test cannot read: {managed}");
            let policy = self.resolve(policy)?.context("an empty policy")?;
            ensure!(!list(&policy["Statement"]).is_empty(), "IAM refuses {managed}, which has no statement");
            statements.extend(Statement::read_all(managed, &policy)?);
        }
        for inline in list(&properties["Policies"]) {
            let policy = format!("{name}/{}", inline["PolicyName"].as_str().context("a policy has no name")?);
            statements.extend(Statement::read_all(&policy, &inline["PolicyDocument"])?);
        }
        Ok(Role { name: name.to_owned(), statements })
    }

    /// Fails if these parameters do not create the resource.
    fn ensure_exists(&self, resource: &str) -> Result<()> {
        let condition = self.document["Resources"][resource]["Condition"].as_str();
        let exists = condition.map_or(Ok(true), |condition| self.holds(condition))?;
        ensure!(exists, "a reference to {resource}, which these parameters do not create");
        Ok(())
    }

    /// The value without intrinsic functions; `None` for `AWS::NoValue`.
    ///
    /// # Errors
    /// When the value refers to a resource that these parameters do not create.
    pub(crate) fn resolve(&self, value: &Value) -> Result<Option<Value>> {
        Ok(Some(match value {
            Value::Array(items) => {
                let items: Result<Vec<_>> = items.iter().map(|item| self.resolve(item)).collect();
                Value::Array(items?.into_iter().flatten().collect())
            }
            Value::Object(fields) => match fields.iter().next() {
                Some((function, argument)) if fields.len() == 1 && is_intrinsic(function) => {
                    return self.call(function, argument);
                }
                _ => {
                    let mut resolved = serde_json::Map::new();
                    for (name, field) in fields {
                        if let Some(field) = self.resolve(field)? {
                            resolved.insert(name.clone(), field);
                        }
                    }
                    Value::Object(resolved)
                }
            },
            _ => value.clone(),
        }))
    }

    fn call(&self, function: &str, argument: &Value) -> Result<Option<Value>> {
        match function {
            "Ref" => self.reference(argument.as_str().context("Ref of no name")?),
            "Fn::Sub" => match list(argument) {
                [text] => Ok(Some(self.substituted(text, &Value::Null)?.into())),
                [text, variables] => {
                    let variables = self.resolve(variables)?.unwrap_or_default();
                    Ok(Some(self.substituted(text, &variables)?.into()))
                }
                _ => bail!("Sub takes a text and variables"),
            },
            "Fn::Join" => {
                let [separator, items] = list(argument) else { bail!("Join takes two values") };
                let items = self.resolve(items)?.context("Join of nothing")?;
                let texts = list(&items).iter().map(plain).collect::<Option<Vec<_>>>().context("Join of no texts")?;
                Ok(Some(texts.join(separator.as_str().unwrap_or_default()).into()))
            }
            "Fn::Split" => {
                let [separator, text] = list(argument) else { bail!("Split takes two values") };
                let text = self.resolve(text)?.and_then(|text| plain(&text)).context("Split of no text")?;
                Ok(Some(text.split(separator.as_str().unwrap_or_default()).map(Value::from).collect()))
            }
            "Fn::GetAtt" => {
                let parts = list(argument).iter().map(plain).collect::<Option<Vec<_>>>().context("GetAtt")?;
                let attribute = parts.join(".");
                self.ensure_exists(attribute.split('.').next().unwrap_or_default())?;
                Ok(Some(attribute.into()))
            }
            "Fn::GetAZs" => Ok(Some(["us-east-1a", "us-east-1b"].map(Value::from).to_vec().into())),
            "Fn::If" => {
                let [condition, then, otherwise] = list(argument) else { bail!("If takes three values") };
                let condition = condition.as_str().context("the condition of If has no name")?;
                self.resolve(if self.holds(condition)? { then } else { otherwise })
            }
            "Fn::Select" => {
                let [index, items] = list(argument) else { bail!("Select takes two values") };
                let index = usize::try_from(index.as_u64().context("the index of Select is not a number")?)?;
                let items = self.resolve(items)?.context("Select of nothing")?;
                Ok(list(&items).get(index).cloned())
            }
            _ => bail!("this test cannot evaluate {function}"),
        }
    }

    fn truth(&self, condition: &Value) -> Result<bool> {
        let (function, argument) =
            condition.as_object().and_then(|fields| fields.iter().next()).context("a condition")?;
        match (function.as_str(), list(argument)) {
            ("Fn::Equals", [left, right]) => Ok(self.resolve(left)? == self.resolve(right)?),
            ("Fn::Not", [inner]) => Ok(!self.truth(inner)?),
            ("Fn::And", parts) => parts.iter().try_fold(true, |all, part| Ok(all && self.truth(part)?)),
            ("Fn::Or", parts) => parts.iter().try_fold(false, |any, part| Ok(any || self.truth(part)?)),
            ("Fn::Contains", [items, value]) => {
                let (items, value) = (self.resolve(items)?.unwrap_or_default(), self.resolve(value)?);
                Ok(list(&items).iter().any(|item| Some(item) == value.as_ref()))
            }
            ("Fn::EachMemberEquals", [items, value]) => {
                let (items, value) = (self.resolve(items)?.unwrap_or_default(), self.resolve(value)?);
                Ok(list(&items).iter().all(|item| Some(item) == value.as_ref()))
            }
            ("Condition", _) => self.holds(argument.as_str().context("a condition without a name")?),
            _ => bail!("this test cannot evaluate {function}"),
        }
    }

    fn reference(&self, name: &str) -> Result<Option<Value>> {
        let pseudo = match name {
            "AWS::NoValue" => return Ok(None),
            "AWS::Partition" => "aws",
            "AWS::Region" => REGION,
            "AWS::AccountId" => ACCOUNT,
            "AWS::URLSuffix" => "amazonaws.com",
            "AWS::StackName" => "spillway",
            "AWS::StackId" => STACK_ID,
            _ if !self.document["Resources"][name].is_null() => {
                self.ensure_exists(name)?;
                name
            }
            _ => {
                let value = self.parameter(name)?;
                return Ok(Some(match self.document["Parameters"][name]["Type"].as_str() {
                    Some("CommaDelimitedList") => value.split(',').map(|item| Value::from(item.trim())).collect(),
                    _ => value.into(),
                }));
            }
        };
        Ok(Some(pseudo.into()))
    }

    fn substituted(&self, text: &Value, variables: &Value) -> Result<String> {
        let text = text.as_str().context("Sub of no text")?;
        let mut parts = text.split("${");
        let mut result = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').with_context(|| format!("an open brace in {text:?}"))?;
            let value = match variables.get(name) {
                Some(value) => Some(value.clone()),
                None if name.contains('.') => {
                    self.ensure_exists(name.split('.').next().unwrap_or_default())?;
                    Some(name.into())
                }
                None => self.reference(name)?,
            };
            result += value.as_ref().and_then(Value::as_str).with_context(|| format!("{name} is not text"))?;
            result += rest;
        }
        Ok(result)
    }
}

pub(crate) fn is_intrinsic(name: &str) -> bool {
    name == "Ref" || name.starts_with("Fn::")
}

/// The items of a list; a single value is a list of one, and a missing one is an empty list.
pub(crate) fn list(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(items) => items,
        single => std::slice::from_ref(single),
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
