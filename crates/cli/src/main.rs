//! `spillway`: Spillway in a terminal.
//!
//! Each command is a file in `commands`. It reads its settings, calls the core, and prints the result. `exit` lists the exit codes.

mod arguments;
mod commands;
mod database;
mod exit;
mod file_name;
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

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use exit::Exit;
use output::Output;
use session::Session;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Help and version are also returned as errors. A closed pipe is not a failure.
            let _ = error.print();
            return exit.into();
        }
    };
    let output = Output::new(&arguments.global);
    let result = match Session::start(&arguments.global, output) {
        Ok(session) => commands::run(arguments.command, &session).await,
        Err(error) => Err(error),
    };
    let exit = result.unwrap_or_else(|error| {
        output.error(&error);
        Exit::of(&error)
    });
    exit.into()
}
