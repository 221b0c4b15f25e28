//! The command-line clients of the databases: the bulk loaders that Spillway is compared with, and queries with many rows.

use std::path::Path;
use std::process::Command;

use spillway_test_env::database::{Engine, Schema};
use spillway_test_env::keeper::SERVER_PATH;

use crate::data::Data;

/// The name of the engine's bulk loader in the report.
pub(crate) fn loader_name(engine: Engine) -> &'static str {
    match engine {
        Engine::MariaDb => "`LOAD DATA LOCAL INFILE`",
        Engine::Postgres => "`\\copy`",
    }
}

/// A command that loads a file into a table, with the options that the loader needs for correct values.
pub(crate) fn load_command(schema: &Schema, port: u16, file: &Path, table: &str, data: Data) -> Command {
    let file = file.display();
    match schema.engine {
        Engine::MariaDb => {
            let (columns, set) = load_data_lists(data);
            let statement = format!(
                "LOAD DATA LOCAL INFILE '{file}' INTO TABLE {table} CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' \
                 OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n' IGNORE 1 LINES ({columns}){set}"
            );
            mariadb(schema, port, &statement)
        }
        Engine::Postgres => psql(schema, port, &format!("\\copy {table} FROM '{file}' WITH (FORMAT csv, HEADER true)")),
    }
}

/// A command that runs a file of psql commands.
pub(crate) fn script_command(schema: &Schema, port: u16, file: &Path) -> Command {
    let mut command = psql(schema, port, "\\set ON_ERROR_STOP on");
    command.arg("--file").arg(file);
    command
}

/// A command that writes the rows of a query to standard output, one per line, without buffering them.
pub(crate) fn query_command(schema: &Schema, port: u16, query: &str) -> Command {
    match schema.engine {
        Engine::MariaDb => mariadb(schema, port, query),
        Engine::Postgres => psql(schema, port, &format!("\\copy ({query}) TO STDOUT")),
    }
}

/// The column list and the SET clause of LOAD DATA. They turn empty fields of nullable columns into NULL, and `true` and
/// `false` into 1 and 0.
fn load_data_lists(data: Data) -> (String, String) {
    const OPTIONAL: [&str; 6] = ["account", "balance", "quantity", "born_on", "updated_at", "note"];
    const BOOLEANS: [&str; 2] = ["is_active", "is_member"];
    let is_converted = |column: &str| data == Data::Wide && (OPTIONAL.contains(&column) || BOOLEANS.contains(&column));
    let (mut columns, mut set) = (Vec::new(), Vec::new());
    for &column in data.columns() {
        if !is_converted(column) {
            columns.push(column.to_owned());
            continue;
        }
        columns.push(format!("@{column}"));
        let value = match BOOLEANS.contains(&column) {
            true => format!("NULLIF(@{column}, '') = 'true'"),
            false => format!("NULLIF(@{column}, '')"),
        };
        set.push(format!("{column} = {value}"));
    }
    let set = if set.is_empty() { String::new() } else { format!(" SET {}", set.join(", ")) };
    (columns.join(", "), set)
}

/// Runs a statement without TLS, which is an advantage over Spillway: it always uses TLS.
fn mariadb(schema: &Schema, port: u16, statement: &str) -> Command {
    let mut command = Command::new("mariadb");
    command
        .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--skip-ssl", "--local-infile=1"])
        .args(["--batch", "--skip-column-names", "--raw", "--quick", "--default-character-set=utf8mb4"])
        .args([format!("--port={port}"), format!("--user={}", schema.user)])
        .args([&schema.name, "--execute", statement])
        .env_clear()
        .env("PATH", SERVER_PATH)
        .env("MYSQL_PWD", &schema.password);
    command
}

/// Runs a command line without TLS, like [`mariadb`].
fn psql(schema: &Schema, port: u16, command_line: &str) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["--no-psqlrc", "--quiet", "--no-password", "--host=127.0.0.1"])
        .args([format!("--port={port}"), format!("--username={}", schema.user), format!("--dbname={}", schema.name)])
        .args(["--command", command_line])
        .env_clear()
        .env("PATH", SERVER_PATH)
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGPASSWORD", &schema.password)
        .env("PGSSLMODE", "disable");
    command
}

#[cfg(test)]
mod tests {
    use super::load_data_lists;
    use crate::data::Data;

    #[test]
    fn only_nullable_and_boolean_columns_are_converted() {
        assert_eq!(load_data_lists(Data::Orders), ("id, customer, product, cents".into(), String::new()));
        let (columns, set) = load_data_lists(Data::Wide);
        assert!(columns.contains("zip, country, @account, @balance"));
        assert!(
            set.contains("is_member = NULLIF(@is_member, '') = 'true'") && set.contains("note = NULLIF(@note, '')")
        );
    }
}
