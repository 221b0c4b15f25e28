//! What a command prints. The result goes to standard output; errors, hints and progress go to standard error.
//!
//! With `--json`, the result or the error is one JSON document on standard output.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::json;
use spillway_core::config::is_color_off;
use spillway_core::error::{Error, ErrorKind, Result, chain};
use spillway_core::policy::{Purpose, hint};

use crate::arguments::Global;
use crate::table::printable;

/// The format of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people.
    Text,
    /// One JSON document.
    Json,
}

/// Whether text is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Color {
    /// With ANSI escape sequences.
    On,
    /// Without.
    Off,
}

/// A style of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For names and headings.
    Bold,
    /// For details.
    Dim,
    /// For a good result.
    Good,
    /// For a result that needs attention.
    Warning,
    /// For a failure.
    Bad,
}

/// Prints the results of commands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    stdout_color: Color,
    stderr_color: Color,
    /// What the command does, for its advice on errors.
    purpose: Purpose,
}

impl Output {
    /// The output that the options of a command ask for. Colors are for terminals only.
    pub(crate) fn new(global: &Global, purpose: Purpose) -> Self {
        let color = |is_terminal: bool| {
            if is_terminal && !global.no_color && !is_color_off() { Color::On } else { Color::Off }
        };
        Self {
            format: if global.json { Format::Json } else { Format::Text },
            stdout_color: color(io::stdout().is_terminal()),
            stderr_color: color(io::stderr().is_terminal()),
            purpose,
        }
    }

    /// The format of the result.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether a progress bar can be drawn on standard error.
    pub(crate) fn has_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Prints the result, as JSON or as text.
    pub(crate) fn result(&self, document: &impl Serialize, text: impl FnOnce(Styles) -> String) {
        match self.format {
            Format::Json => self.json(document),
            Format::Text => {
                write(text(Styles(self.stdout_color)).as_bytes());
            }
        }
    }

    /// Writes bytes to standard output, whatever the format. Returns whether it can take more. [`check_written`] returns a failure.
    pub(crate) fn raw(&self, bytes: &[u8]) -> bool {
        write(bytes)
    }

    /// Prints a line about the work in progress.
    pub(crate) fn note(&self, line: &str) {
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Prints the next step that a user can take. Scripts that read JSON do not need it.
    pub(crate) fn next_step(&self, text: &str) {
        if self.format == Format::Text {
            self.note(&Styles(self.stderr_color).paint(Style::Dim, &format!("next: {text}")));
        }
    }

    /// Prints an error with its hint.
    pub(crate) fn error(&self, error: &Error) {
        if self.format == Format::Json {
            self.json(&json!({ "error": self.error_document(error) }));
        }
        self.error_text(error);
    }

    /// An error for a JSON document.
    pub(crate) fn error_document(&self, error: &Error) -> ErrorDocument {
        ErrorDocument::of(error, self.purpose)
    }

    /// Prints an error without its hint to standard error only.
    pub(crate) fn error_line(&self, error: &Error) {
        self.error_message(&chain(error));
    }

    /// Prints the message of an error without its hint to standard error only.
    pub(crate) fn error_message(&self, message: &str) {
        let styles = Styles(self.stderr_color);
        self.note(&format!("{} {}", styles.paint(Style::Bad, "error:"), printable(message)));
    }

    /// Prints an error with its hint to standard error only.
    pub(crate) fn error_text(&self, error: &Error) {
        self.error_line(error);
        let styles = Styles(self.stderr_color);
        if let Some(hint) = hint(error, self.purpose) {
            self.note(&format!("{} {hint}", styles.paint(Style::Bold, "hint:")));
        }
    }

    fn json(&self, document: &impl Serialize) {
        let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
        text.push('\n');
        write(text.as_bytes());
    }
}

/// The first failure of a write to standard output.
static WRITE_FAILURE: OnceLock<io::Error> = OnceLock::new();

fn write(bytes: &[u8]) -> bool {
    let mut stdout = io::stdout().lock();
    let result = stdout.write_all(bytes).and_then(|()| stdout.flush());
    let is_written = result.is_ok();
    record(result);
    is_written
}

/// Records the result of a write to standard output.
pub(crate) fn record(result: io::Result<()>) {
    match result {
        // The reader of a pipe may close it early, as `head` does.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            WRITE_FAILURE.get_or_init(|| error);
        }
        Ok(()) | Err(_) => {}
    }
}

/// Fails if a part of the result could not be written, for example to a full disk.
///
/// # Errors
/// [`ErrorKind::Forbidden`].
pub(crate) fn check_written() -> Result<()> {
    match WRITE_FAILURE.get() {
        Some(failure) => {
            let message = format!("the result is incomplete, because standard output cannot be written: {failure}");
            Err(Error::new(ErrorKind::Forbidden, message).with_advice())
        }
        None => Ok(()),
    }
}

/// Prints what is wrong with a command line as a JSON document. `text` is that of the parser.
pub(crate) fn usage_json(text: &str) {
    // The first paragraph says what is wrong; the others are about the usage.
    let first = text.split("\n\n").next().unwrap_or_default();
    let message = first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let document = json!({"error": {"kind": "event_invalid", "message": message, "hint": "see --help"}});
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    write(text.as_bytes());
}

/// The styles of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Styles(pub(crate) Color);

impl Styles {
    /// The text in this style, if the stream is a terminal.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match (self.0, style) {
            (Color::Off, _) => return text.to_owned(),
            (Color::On, Style::Bold) => "1",
            (Color::On, Style::Dim) => "2",
            (Color::On, Style::Good) => "32",
            (Color::On, Style::Warning) => "33",
            (Color::On, Style::Bad) => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// An error in a JSON document.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument {
    /// The stable name of the error's kind.
    kind: &'static str,
    /// The message with its causes.
    message: String,
    /// The number of the record, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<u64>,
    /// The number of the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// The offset of the record's first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    byte: Option<u64>,
    /// The name of the column.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    /// What the user can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl ErrorDocument {
    pub(crate) fn of(error: &Error, purpose: Purpose) -> Self {
        let position = error.position();
        Self {
            kind: error.kind().name(),
            message: chain(error),
            record: position.map(|position| position.record),
            line: position.map(|position| position.line),
            byte: position.map(|position| position.byte),
            column: error.column().map(str::to_owned),
            hint: hint(error, purpose),
        }
    }
}
