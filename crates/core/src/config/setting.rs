//! The type of a declaration: one setting with its name, accepted values, default, readers and text.
//!
//! Parsing, error messages, `docs/settings.md` and the checks of `template.yaml` all read these declarations.

use std::time::Duration;

use super::environment::settings_error;
use crate::error::Error;

/// A setting whose value has the type `T`.
#[derive(Debug)]
pub struct Setting<T: 'static> {
    /// The parts that do not depend on the type.
    pub info: Info,
    /// The accepted values.
    pub value: Value<T>,
}

/// The parts of a declaration that do not depend on the value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// The name of the environment variable. An empty value counts as unset.
    pub name: &'static str,
    /// The meaning, in Markdown.
    pub text: &'static str,
    /// The section of `docs/settings.md`.
    pub category: Category,
    /// The programs that read it.
    pub read_by: ReadBy,
    /// How `template.yaml` sets it.
    pub template: Template,
    /// The value when it is unset.
    pub default: Option<&'static str>,
}

/// A group of settings: a section of `docs/settings.md`, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Region, bucket and key prefixes.
    Storage,
    /// The connection to the database.
    Database,
    /// Tables, load modes and the ledger.
    Loading,
    /// How files are read.
    Files,
    /// Limits on files and on the work in progress.
    Limits,
    /// The fallback and the lake in Glue.
    Fallback,
    /// Fargate tasks.
    Tasks,
    /// The transform of streams.
    Streams,
    /// The import of full exports.
    Exports,
    /// Metrics, events and retries of outcomes.
    Outcomes,
    /// The default request of the task and the ingest function.
    Request,
    /// Logs.
    Logs,
    /// Values that AWS Lambda or the template sets to describe where a program runs.
    Platform,
    /// Builds for tests.
    Testing,
}

/// The programs that read a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBy {
    /// Both functions and the task.
    All,
    /// Both functions.
    Functions,
    /// The trigger function.
    Trigger,
    /// The ingest function and the task.
    IngestAndTask,
    /// The task.
    Task,
    /// The ingest function as the transform of a stream.
    Stream,
    /// The ingest function as the import of exports.
    Exports,
    /// The import of exports and the command line.
    ExportsAndCommandLine,
    /// The command line.
    CommandLine,
    /// Every program that is built with the feature `failpoints`.
    TestBuilds,
}

/// How `template.yaml` sets a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// From the parameter of this name, which has the same default.
    Parameter(&'static str),
    /// To a fixed value, or to the name of one of its resources.
    Fixed,
    /// Not at all.
    NotSet,
}

/// The accepted values of a setting.
#[derive(Debug)]
pub enum Value<T: 'static> {
    /// A whole number within a range that includes both ends.
    Number {
        /// The noun for it, such as "number of bytes".
        noun: &'static str,
        /// The smallest number.
        min: u64,
        /// The largest number; `u64::MAX` for no limit.
        max: u64,
        /// The number as a value; `None` when the type cannot hold it.
        convert: fn(u64) -> Option<T>,
    },
    /// One word of a list, in any letter case.
    Choice(&'static [Choice<T>]),
    /// Any other text.
    Text {
        /// The accepted form, as a noun.
        form: &'static str,
        /// The text as a value, or why it is not accepted.
        parse: fn(&str) -> Result<T, Reason>,
    },
}

/// A word that a setting accepts.
#[derive(Debug)]
pub struct Choice<T> {
    /// The documented word.
    pub name: &'static str,
    /// Other accepted spellings.
    pub aliases: &'static [&'static str],
    /// Its value.
    pub value: T,
}

/// Why a text is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It does not have the accepted form.
    Form,
    /// A sentence about a part of the text.
    Because(String),
}

/// A type that a [`Value::Number`] can have.
pub trait FromNumber: Sized {
    /// The number as a value; `None` when the type cannot hold it.
    fn from_number(number: u64) -> Option<Self>;
}

impl FromNumber for Duration {
    fn from_number(seconds: u64) -> Option<Self> {
        Some(Self::from_secs(seconds))
    }
}

macro_rules! from_number {
    ($($type:ty),*) => {
        $(impl FromNumber for $type {
            fn from_number(number: u64) -> Option<Self> {
                Self::try_from(number).ok()
            }
        })*
    };
}
from_number!(u8, u16, u32, u64, usize);

impl<T: FromNumber> Value<T> {
    /// A number from `min` to `max`.
    pub const fn number(noun: &'static str, min: u64, max: u64) -> Self {
        Self::Number { noun, min, max, convert: T::from_number }
    }
}

impl Value<String> {
    /// Any text, unchanged.
    pub const fn text(form: &'static str) -> Self {
        Self::Text { form, parse: |text| Ok(text.to_owned()) }
    }
}

impl Value<Vec<String>> {
    /// Items separated by commas, at least one, without the spaces around them.
    pub const fn list(form: &'static str) -> Self {
        Self::Text { form, parse: list }
    }
}

impl Value<bool> {
    /// `true` or `false`, or a word or number that people write for them.
    pub const fn boolean() -> Self {
        Self::Choice(&[
            Choice { name: "true", aliases: &["yes", "on", "1"], value: true },
            Choice { name: "false", aliases: &["no", "off", "0"], value: false },
        ])
    }
}

impl<T> Choice<T> {
    /// A word without other spellings.
    pub const fn new(name: &'static str, value: T) -> Self {
        Self { name, aliases: &[], value }
    }

    fn is(&self, word: &str) -> bool {
        self.name.eq_ignore_ascii_case(word) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(word))
    }
}

impl<T: Clone> Value<T> {
    /// The value of a text, or why it is not accepted.
    pub(super) fn parse(&self, text: &str) -> Result<T, Reason> {
        match self {
            Self::Number { min, max, convert, .. } => {
                let number = text.trim().parse().ok().filter(|number| (min..=max).contains(&number));
                number.and_then(convert).ok_or(Reason::Form)
            }
            Self::Choice(choices) => {
                let found = choices.iter().find(|choice| choice.is(text.trim()));
                found.map(|choice| choice.value.clone()).ok_or(Reason::Form)
            }
            Self::Text { parse, .. } => parse(text),
        }
    }
}

fn list(text: &str) -> Result<Vec<String>, Reason> {
    let items: Vec<String> =
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
    if items.is_empty() { Err(Reason::Form) } else { Ok(items) }
}

/// A declaration without its type.
pub trait Declared: Sync {
    /// The declaration.
    fn info(&self) -> &Info;
    /// The accepted values, as a noun for messages and documentation.
    fn accepts(&self) -> String;
    /// The documented words, when the setting accepts only a list of words.
    fn choices(&self) -> Option<Vec<&'static str>>;
    /// Other spellings of the documented words.
    fn aliases(&self) -> Vec<&'static str>;
    /// The smallest and the largest number, when the setting accepts a number.
    fn range(&self) -> Option<(u64, u64)>;
    /// Whether a text is accepted.
    fn is_accepted(&self, text: &str) -> bool;
}

impl<T: Clone + Sync> Declared for Setting<T> {
    fn info(&self) -> &Info {
        &self.info
    }

    fn accepts(&self) -> String {
        match &self.value {
            Value::Number { noun, min: 0, max: u64::MAX, .. } => format!("a {noun}"),
            Value::Number { noun, min, max: u64::MAX, .. } => format!("a {noun} from {min}"),
            Value::Number { noun, min, max, .. } => format!("a {noun} from {min} to {max}"),
            Value::Choice(choices) => {
                let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
                let names = match names.split_last() {
                    Some((last, [])) => (*last).to_owned(),
                    Some((last, others)) => format!("{} or {last}", others.join(", ")),
                    None => String::new(),
                };
                match self.aliases().as_slice() {
                    [] => names,
                    aliases => format!("{names} (also {})", aliases.join(", ")),
                }
            }
            Value::Text { form, .. } => (*form).to_owned(),
        }
    }

    fn aliases(&self) -> Vec<&'static str> {
        let Value::Choice(choices) = &self.value else { return Vec::new() };
        choices.iter().flat_map(|choice| choice.aliases).copied().collect()
    }

    fn choices(&self) -> Option<Vec<&'static str>> {
        let Value::Choice(choices) = &self.value else { return None };
        Some(choices.iter().map(|choice| choice.name).collect())
    }

    fn range(&self) -> Option<(u64, u64)> {
        let Value::Number { min, max, .. } = &self.value else { return None };
        Some((*min, *max))
    }

    fn is_accepted(&self, text: &str) -> bool {
        self.value.parse(text).is_ok()
    }
}

/// The error for a value that is not accepted: the name, the value, the reason, and the accepted values.
pub(super) fn invalid(setting: &dyn Declared, got: &str, reason: Reason) -> Error {
    let why = match reason {
        Reason::Form => String::new(),
        Reason::Because(why) => format!(": {why}"),
    };
    settings_error(format!("{} is {got:?}{why}; it accepts {}", setting.info().name, setting.accepts()))
}

/// Declares the settings of one category. The doc comment is the text in the documentation.
macro_rules! settings {
    ($category:ident $list:ident {$(
        $(#[doc = $text:literal])+
        $name:ident: $type:ty = $value:expr, $read_by:ident, $template:expr $(, default $default:literal)?;
    )+}) => {
        $(
            $(#[doc = $text])+
            pub const $name: Setting<$type> = Setting {
                info: Info {
                    name: stringify!($name),
                    text: concat!($($text),+),
                    category: Category::$category,
                    read_by: ReadBy::$read_by,
                    template: $template,
                    default: settings!(@default $($default)?),
                },
                value: $value,
            };
        )+
        pub(super) const $list: &[&dyn Declared] = &[$(&$name),+];
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}
pub(super) use settings;
