//! `spillway plan`: shows what a load of a file would do, and writes nothing.

mod text;

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, ValueEnum};
use spillway_core::config::DatabaseChoice;
use spillway_core::destination::Product;
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::local_file::{LocalFile, STANDARD_INPUT};
use spillway_core::plan::{DatabaseUse, Plan, PlanRequest, PlanSettings, PlanSource, PlannedOutcome, Planner};
use spillway_core::progress::Progress;

use crate::database::DatabaseOptions;
use crate::exit::Exit;
use crate::file_name::{FileName, shell_word, table_of};
use crate::progress;
use crate::session::Session;
use crate::table::printable;
use crate::table_options::TableOptions;

/// The arguments of the command.
#[derive(Debug, Args)]
#[command(after_help = "Example: spillway plan orders.csv --to postgres://loader@db.example/shop --table orders")]
pub(crate) struct Arguments {
    /// File, s3://bucket/key, or - for standard input
    #[arg(value_name = "FILE")]
    file: OsString,
    /// Plan a new table of this product, without a database
    #[arg(long, value_name = "PRODUCT", conflicts_with_all = ["to", "secret"])]
    engine: Option<Engine>,
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    table: TableOptions,
}

/// A database product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// MySQL
    Mysql,
    /// MariaDB
    Mariadb,
    /// PostgreSQL
    Postgres,
}

impl Engine {
    fn product(self) -> Product {
        match self {
            Self::Mysql => Product::MySql,
            Self::Mariadb => Product::MariaDb,
            Self::Postgres => Product::Postgres,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<Exit> {
    let values = [arguments.table.settings()?, arguments.database.settings()?].concat();
    let settings = session.settings(values)?;
    let database = match (arguments.engine, settings.database) {
        (Some(engine), _) => DatabaseUse::None(engine.product()),
        (None, DatabaseChoice::Named) => DatabaseUse::Live,
        (None, DatabaseChoice::Missing) => DatabaseUse::None(Product::MySql),
    };
    let planner = PlanSettings { pipeline: settings.pipeline, database, inline_max_bytes: settings.inline_max_bytes };
    let planner = Box::pin(Planner::new(planner)).await;
    let plan = make(&arguments, &planner, session).await;
    planner.close().await;
    let plan = plan?;
    let key = FileName::of(&arguments.file)?.key().into_owned();
    let names_table = planner.names_table(arguments.table.key_of(&key));
    session.output.result(&plan, |styles| text::text(&plan, database, styles));
    session.output.next_step(&printable(&next_step(&arguments, names_table, database, &plan)));
    Ok(if plan.outcome.is_good() { Exit::Done } else { Exit::NeedsAttention })
}

async fn make(arguments: &Arguments, planner: &Planner, session: &Session) -> Result<Plan> {
    let progress = Progress::default();
    let name = FileName::of(&arguments.file)?;
    let key = name.key();
    let key = arguments.table.key_of(&key);
    match &name {
        FileName::Local(path) => {
            let file = LocalFile::open(path).await.map_err(|error| error.for_object(path.display()))?;
            // A plan needs a table only for its statements.
            let own_name = table_of(path);
            let is_named = planner.names_table(key);
            let table = arguments.table.table.as_deref().or((!is_named).then_some(own_name.as_str()));
            let request = PlanRequest { source: PlanSource::Local(&file), table, key, progress: progress.clone() };
            let work = planner.plan(request);
            progress::watch(&session.output, (file.name(), file.size_bytes()), &progress, work).await
        }
        FileName::Object(object) => {
            if arguments.table.key.is_some() {
                let message = "--as applies only to local files; an object has a key of its own";
                return Err(Error::new(ErrorKind::EventInvalid, message).for_object(object));
            }
            let table = arguments.table.table.as_deref();
            let source = PlanSource::Object(object.clone());
            planner.plan(PlanRequest { source, table, key, progress }).await
        }
    }
}

/// The command that the user can run next, or the advice on an error.
fn next_step(arguments: &Arguments, names_table: bool, database: DatabaseUse, plan: &Plan) -> String {
    let file = shell_word(&plan.file);
    let is_local = matches!(FileName::of(&arguments.file), Ok(FileName::Local(_)));
    match (&plan.error, database, plan.outcome) {
        (Some(error), _, _) => error.hint.to_owned(),
        (None, DatabaseUse::Live, PlannedOutcome::AlreadyLoaded | PlannedOutcome::Superseded) if is_local => {
            format!("spillway load {file} --again with the same options loads it once more")
        }
        (None, DatabaseUse::Live, PlannedOutcome::AlreadyLoaded | PlannedOutcome::Superseded) => {
            "upload the object under another key to load its rows once more".to_owned()
        }
        (None, DatabaseUse::Live, _) => match (&arguments.table.table, &plan.table) {
            (None, Some(table)) if !names_table => {
                format!("spillway load {file} --table {} with the same options", shell_word(&table.name))
            }
            (None | Some(_), _) => format!("spillway load {file} with the same options"),
        },
        (None, DatabaseUse::None(product), _) => {
            let table = match (&arguments.table.table, &plan.table) {
                (Some(table), _) => format!(" --table {}", shell_word(table)),
                (None, _) if names_table => String::new(),
                (None, _) if plan.file == STANDARD_INPUT => " --table NAME (standard input names no table)".to_owned(),
                (None, Some(table)) => format!(" --table {}", shell_word(&table.name)),
                // An empty file has no table.
                (None, None) => format!(" --table {}", shell_word(&table_of(Path::new(&plan.file)))),
            };
            format!("spillway plan {file} --to {}://USER@HOST/DATABASE{table}", scheme(product))
        }
    }
}

/// The scheme of a database's URL.
fn scheme(product: Product) -> &'static str {
    match product {
        Product::MySql => "mysql",
        Product::MariaDb => "mariadb",
        Product::Postgres => "postgres",
    }
}
