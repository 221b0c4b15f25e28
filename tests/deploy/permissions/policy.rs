//! Evaluates the statements of roles as IAM does: an action on an ARN, with the context of its request.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::template::list;

/// A role of the template.
#[derive(Debug)]
pub(super) struct Role {
    /// Its logical name.
    pub(super) name: String,
    /// The statements of all its policies.
    pub(super) statements: Vec<Statement>,
}

/// One statement, whose effect is `Allow`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// The policy and the statement's `Sid`.
    pub(super) name: String,
    /// The actions, none of them with a wildcard.
    pub(super) actions: Vec<String>,
    /// The ARNs, with wildcards.
    pub(super) resources: Vec<String>,
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    key: String,
    values: Vec<String>,
}

/// The resource and the context of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The ARN.
    pub(super) arn: String,
    /// The condition keys of the request.
    pub(super) context: BTreeMap<&'static str, String>,
}

impl Role {
    /// Whether a statement of this role allows the action.
    pub(super) fn allows(&self, action: &str, target: &Target) -> bool {
        self.statements.iter().any(|statement| statement.allows(action, target))
    }
}

impl Statement {
    /// The statements of a policy document without intrinsic functions.
    pub(super) fn read_all(policy: &str, document: &Value) -> Result<Vec<Self>> {
        list(&document["Statement"]).iter().map(|statement| Self::read(policy, statement)).collect()
    }

    fn read(policy: &str, statement: &Value) -> Result<Self> {
        let name = format!("{policy}/{}", statement["Sid"].as_str().unwrap_or("(no Sid)"));
        ensure!(
            statement["Effect"] == "Allow",
            "{name} has another effect than Allow, which this test does not support"
        );
        let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
        let fields = statement.as_object().context("a statement has no fields")?;
        ensure!(fields.keys().all(|field| known.contains(&field.as_str())), "{name} has unknown fields");
        let (actions, resources) = (texts(&statement["Action"])?, texts(&statement["Resource"])?);
        ensure!(!actions.is_empty() && !resources.is_empty(), "{name} has no action or no resource");
        ensure!(actions.iter().all(|action| !action.contains(['*', '?'])), "{name} has an action with a wildcard");
        let mut conditions = Vec::new();
        for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
            ensure!(["StringEquals", "ArnEquals"].contains(&operator.as_str()), "{name} has the operator {operator}");
            for (key, values) in keys.as_object().context("a condition has no keys")? {
                conditions.push(Condition { key: key.clone(), values: texts(values)? });
            }
        }
        Ok(Self { name, actions, resources, conditions })
    }

    /// Whether the statement allows the action.
    pub(super) fn allows(&self, action: &str, target: &Target) -> bool {
        let applies = self.resources.iter().any(|resource| self.applies(resource, target));
        applies && self.actions.iter().any(|allowed| allowed == action)
    }

    /// Whether the statement's conditions hold and the resource matches the target.
    pub(super) fn applies(&self, resource: &str, target: &Target) -> bool {
        let holds = |condition: &Condition| {
            target.context.get(condition.key.as_str()).is_some_and(|value| condition.values.contains(value))
        };
        self.conditions.iter().all(holds) && matches(resource.as_bytes(), target.arn.as_bytes())
    }
}

/// Whether a text matches a pattern with IAM's wildcards: `*` for any characters, `?` for one.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        (Some((b'?', pattern)), Some((_, text))) => matches(pattern, text),
        (Some((wanted, pattern)), Some((found, text))) => wanted == found && matches(pattern, text),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn texts(value: &Value) -> Result<Vec<String>> {
    let text = |item: &Value| item.as_str().map(str::to_owned).with_context(|| format!("{item} is not a string"));
    list(value).iter().map(text).collect()
}

#[test]
fn wildcards_match_as_in_iam() {
    assert!(matches(b"a/*", b"a/b/c") && matches(b"s-??", b"s-xy") && matches(b"*", b""));
    assert!(!matches(b"a/*", b"ab") && !matches(b"s-??", b"s-xyz") && !matches(b"a", b"ab"));
}
