//! TLS: a server that cannot prove who it is gets neither the password nor a row, and nothing is sent as plain text.

use anyhow::{Result, ensure};
use rstest::rstest;
use spillway_core::destination::{LoadMethod, Tls};
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::attacker::{Attack, Attacker};
use spillway_test_env::database::{self, Options};
use spillway_test_env::tls::Certificate;

use crate::engines::conformance::{Engine, File, claim, load, load_error};
use crate::engines::mysql::MySql;
use crate::engines::postgres::Postgres;

/// Texts of a login, of statements and of the rows.
fn secrets(engine: &impl Engine) -> [String; 6] {
    let schema = engine.schema();
    [schema.user.clone(), schema.password.clone(), "spillway".into(), "SELECT".into(), "COMMIT".into(), "note 1".into()]
}

/// The secrets that the attacker has received as plain text.
fn received(engine: &impl Engine, attacker: &Attacker) -> Vec<String> {
    let bytes = attacker.received();
    let is_received = |secret: &String| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
    secrets(engine).into_iter().filter(is_received).collect()
}

/// Loads a file through an attacker, which must end as `tls_refused`, and must not show the attacker anything.
async fn ensure_refused(engine: &impl Engine, attack: Attack, trusts_authority: bool) -> Result<()> {
    let attacker = Attacker::start(engine.schema().engine, engine.server().port(), attack).await?;
    let untrusted = std::fs::read(engine.server().certificates().untrusted_authority())?;
    let destination = engine.with(|credentials, options| {
        credentials.port = attacker.port();
        if !trusts_authority {
            options.tls = Tls::Verify { ca_pem: untrusted.into() };
        }
    });
    let error = load_error(&destination, &claim("a.csv"), &File::orders(3)).await?;
    assert_eq!(error.kind(), ErrorKind::TlsRefused, "{}", chain(&error));
    assert_eq!(received(engine, &attacker), Vec::<String>::new());
    ensure!(!chain(&error).contains(&engine.schema().password), "the password is in the message");
    Ok(())
}

/// The server's certificate or the connection does not prove who the server is.
#[rstest]
#[case::no_tls(Options { tls: false, ..Options::default() })]
#[case::self_signed(Options { certificate: Certificate::SelfSigned, ..Options::default() })]
#[case::other_host(Options { certificate: Certificate::OtherHost, ..Options::default() })]
#[case::expired(Options { certificate: Certificate::Expired, ..Options::default() })]
#[tokio::test]
async fn server_without_a_valid_certificate_is_refused(
    #[case] options: Options,
    #[values(database::Engine::MariaDb, database::Engine::Postgres)] engine: database::Engine,
) -> Result<()> {
    match engine {
        database::Engine::MariaDb => {
            ensure_refused(&MySql::start(options, LoadMethod::LoadData).await?, Attack::Listen, true).await
        }
        database::Engine::Postgres => ensure_refused(&Postgres::start(options).await?, Attack::Listen, true).await,
    }
}

/// The certificate is valid, but signed by an authority that the settings do not name; or a proxy hides that the server offers
/// TLS.
#[rstest]
#[case::other_authority(Attack::Listen, false)]
#[case::hidden(Attack::HideTls, true)]
#[tokio::test]
async fn server_behind_an_attacker_is_refused(
    #[case] attack: Attack,
    #[case] trusts_authority: bool,
    #[values(database::Engine::MariaDb, database::Engine::Postgres)] engine: database::Engine,
) -> Result<()> {
    match engine {
        database::Engine::MariaDb => {
            ensure_refused(&MySql::new(LoadMethod::LoadData).await?, attack, trusts_authority).await
        }
        database::Engine::Postgres => ensure_refused(&Postgres::new().await?, attack, trusts_authority).await,
    }
}

async fn ensure_encrypted(engine: &impl Engine) -> Result<()> {
    for (tls, has_secrets) in [(true, false), (false, true)] {
        let attacker = Attacker::start(engine.schema().engine, engine.server().port(), Attack::Listen).await?;
        let destination = engine.with(|credentials, options| {
            credentials.port = attacker.port();
            if !tls {
                options.tls = Tls::Off;
            }
        });
        load(&destination, &claim(&format!("{tls}.csv")), &File::orders(3)).await?;
        let received = received(engine, &attacker);
        // The password itself is sent only as a hash or a proof.
        let expected: Vec<String> =
            secrets(engine).into_iter().filter(|secret| has_secrets && *secret != engine.schema().password).collect();
        assert_eq!(received, expected, "TLS: {tls}");
    }
    Ok(())
}

/// With a valid certificate everything is encrypted. With `RDS_TLS=off` the same relay sees the login, statements and rows, which
/// shows that the tests above would notice them.
#[rstest]
#[tokio::test]
async fn attacker_sees_nothing_unless_tls_is_off(
    #[values(database::Engine::MariaDb, database::Engine::Postgres)] engine: database::Engine,
) -> Result<()> {
    match engine {
        database::Engine::MariaDb => ensure_encrypted(&MySql::new(LoadMethod::LoadData).await?).await,
        database::Engine::Postgres => ensure_encrypted(&Postgres::new().await?).await,
    }
}
