//! `spillway`: Spillway in a terminal.
//!
//! Each command is a file in `commands`. It reads its settings, calls the core, and prints the result. `exit` lists the exit codes.

mod arguments;
mod commands;
mod database;
mod exit;
mod file_name;
mod file_pattern;
mod json;
mod numbers;
mod output;
mod progress;
mod report;
mod request;
mod row_counts;
#[allow(dead_code, unreachable_pub, reason = "the tests use the same file, and more of it")]
mod sample_events;
mod sample_stream;
mod session;
mod table;
mod table_options;

use std::io::Write;
use std::process::ExitCode;

use arguments::Arguments;
use exit::Exit;
use output::Output;
use session::Session;
use spillway_core::error::chain;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::of_command_line() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error).into(),
    };
    let output = Output::new(&arguments.global, arguments.command.purpose());
    let result = match Session::start(&arguments.global, output) {
        Ok(session) => commands::run(arguments.command, &session).await,
        Err(error) => Err(error),
    };
    let exit = result.unwrap_or_else(|error| {
        output.error(&error);
        Exit::of(&error)
    });
    exit.and(written()).into()
}

/// Says on standard error if the result could not be written.
fn written() -> Exit {
    match output::check_written() {
        Ok(()) => Exit::Done,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", chain(&error));
            Exit::Failed
        }
    }
}

/// Prints help, the version, or what is wrong with the command line.
fn usage(error: &clap::Error) -> Exit {
    // Help and version are also returned as errors.
    if !error.use_stderr() {
        output::record(error.print());
        return written();
    }
    let _ = error.print();
    // Without valid arguments, only the option itself tells that a script reads the result.
    if std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json") {
        output::usage_json(&error.render().to_string());
    }
    Exit::Usage
}
