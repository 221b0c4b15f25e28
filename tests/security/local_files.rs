//! A hostile server of MySQL's protocol, which requests files of the client.

use anyhow::{Result, ensure};
use rstest::rstest;
use spillway_core::destination::{LoadMethod, Tls};
use spillway_test_env::attacker::{Attack, Attacker};
use spillway_test_env::database;
use spillway_test_env::run::Scratch;

use crate::engines::conformance::{Engine, File, claim, load};
use crate::engines::mysql::MySql;

/// The content of the file that the server requests.
const CONTENT: &str = "the content of a local file";
/// The rows of the loaded file, as LOAD DATA sends them.
const ROWS: &str = "1\t1.25\tnote 1\n2\t2.25\tnote 2\n3\t3.25\tnote 3\n";

/// The server requests a file in place of each response of a load, from the login to the end. It gets no byte of the file. In
/// place of the response to LOAD DATA it gets the rows, which it was to get anyway.
#[rstest]
#[tokio::test]
async fn server_that_requests_a_file_gets_no_byte_of_it(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let folder = Scratch::new("local-file")?;
    let path = folder.path().join("secret").display().to_string();
    std::fs::write(&path, CONTENT)?;
    let mut commands = Vec::new();
    loop {
        // A new schema, so that each load sends the same commands, also those that create ledger and table.
        let engine = MySql::new(method).await?;
        let attack = Attack::RequestFile { command: commands.len(), path: path.clone() };
        let attacker = Attacker::start(database::Engine::MariaDb, engine.server().port(), attack).await?;
        let destination = engine.with(|credentials, options| {
            credentials.port = attacker.port();
            options.tls = Tls::Off;
        });
        let loaded = load(&destination, &claim("a.csv"), &File::orders(3)).await;
        let Some(request) = attacker.file_request().await? else {
            loaded?;
            break;
        };
        let content = String::from_utf8_lossy(&request.content);
        let expected = if request.command.starts_with("LOAD DATA") { ROWS } else { "" };
        assert_eq!(content, expected, "in place of the response to {}", request.command);
        commands.push(request.command);
    }
    for expected in ["login", "SET NAMES", "CREATE TABLE", "COMMIT"] {
        ensure!(commands.iter().any(|command| command.starts_with(expected)), "no {expected} among {commands:#?}");
    }
    let has_load_data = commands.iter().any(|command| command.starts_with("LOAD DATA"));
    assert_eq!(has_load_data, method == LoadMethod::LoadData, "{commands:#?}");
    Ok(())
}
