//! Conformance tests for failures of connections, servers and COMMIT, which every engine runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spillway_core::config::secret;
use spillway_core::destination::{CommitResult, Tls};
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::database::Options;
use spillway_test_env::proxy::{CommitFault, Mode, Proxy};

use crate::engines::conformance::{Engine, File, claim, count, load, load_error, open, prepare, write};

/// Calls a macro with this module's name and the name of each test on a shared server.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_failures:
            certificate_for_another_host_is_rejected,
            commit_without_response_is_in_doubt,
            connection_failures_have_their_error_kinds,
            missing_privilege_has_its_error_kind,
            repeated_load_needs_no_ddl,
            stalled_commit_is_in_doubt_in_time,
        );
    };
}
pub(crate) use for_each_test;

/// Calls a macro with this module's name and the name of each test that stops or reconfigures its server.
macro_rules! for_each_server_test {
    ($callback:ident) => {
        $callback!(conformance_failures:
            full_or_read_only_server_has_its_error_kind,
            server_killed_during_load_is_a_failover,
        );
    };
}
pub(crate) use for_each_server_test;

/// The configuration of a server for the tests of [`for_each_server_test`].
pub(crate) fn server_options() -> Options {
    Options { max_connections: 10, ..Options::default() }
}

/// Each failure to connect has its error kind, and no message contains a password.
pub(crate) async fn connection_failures_have_their_error_kinds(engine: &impl Engine) -> Result<()> {
    let untrusted = std::fs::read(engine.server().certificates().untrusted_authority())?;
    let closed_port = spillway_test_env::run::free_port()?;
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let silent_port = silent.local_addr()?.port();
    let id = claim("a.csv").file.source.id;
    let destinations = [
        (ErrorKind::Credentials, engine.with(|credentials, _| credentials.password = secret("pass-wrong"))),
        (ErrorKind::Credentials, engine.with(|credentials, _| credentials.password = secret(""))),
        (ErrorKind::Credentials, engine.with(|credentials, _| credentials.user = "unknown".into())),
        (ErrorKind::Privilege, engine.with(|credentials, _| credentials.database = "unknown".into())),
        (ErrorKind::Unreachable, engine.with(|credentials, _| credentials.port = closed_port)),
        (ErrorKind::Unreachable, engine.with(|credentials, _| credentials.host = "no-such-host.invalid".into())),
        (ErrorKind::TlsRefused, engine.with(|_, options| options.tls = Tls::Verify { ca_pem: untrusted.into() })),
        (
            ErrorKind::Unreachable,
            engine.with(|credentials, options| {
                credentials.port = silent_port;
                options.connect_timeout = Duration::from_millis(300);
            }),
        ),
    ];
    for (index, (kind, destination)) in destinations.into_iter().enumerate() {
        let error = destination.look_up(&id).await.err().with_context(|| format!("case {index} connected"))?;
        assert_eq!(error.kind(), kind, "case {index}: {}", chain(&error));
        ensure!(!chain(&error).contains("pass-"), "a password is in the message: {}", chain(&error));
    }
    let without_tls = engine.with(|_, options| options.tls = Tls::Off);
    assert_eq!(without_tls.look_up(&id).await?, None, "a connection without TLS works if the settings ask for it");
    load(&without_tls, &claim("a.csv"), &File::orders(1)).await?;
    Ok(())
}

/// TLS verification compares the host with the certificate.
pub(crate) async fn certificate_for_another_host_is_rejected(engine: &impl Engine) -> Result<()> {
    // The server listens on 127.0.0.1 only, so 127.0.0.2 needs a relay.
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await?;
    let port = listener.local_addr()?.port();
    let server_port = engine.server().port();
    let relay = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await?;
        let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    });
    let destination = engine.with(|credentials, _| (credentials.host, credentials.port) = ("127.0.0.2".into(), port));
    let error = destination.look_up(&claim("a.csv").source.id).await.err().context("it connected")?;
    assert_eq!(error.kind(), ErrorKind::TlsRefused, "{}", chain(&error));
    relay.abort();
    Ok(())
}

/// A new table without the privilege to create it is a privilege error.
pub(crate) async fn missing_privilege_has_its_error_kind(engine: &impl Engine) -> Result<()> {
    engine.revoke_ddl().await?;
    let error = load_error(&engine.destination(), &claim("a.csv"), &File::orders(1)).await?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    Ok(())
}

/// If the table and the ledger exist, a load sends no DDL.
pub(crate) async fn repeated_load_needs_no_ddl(engine: &impl Engine) -> Result<()> {
    load(&engine.destination(), &claim("a.csv"), &File::orders(1)).await?;
    engine.revoke_ddl().await?;
    load(&engine.destination(), &claim("b.csv"), &File::orders(1)).await?;
    Ok(())
}

/// A COMMIT without a response is in doubt, and the ledger resolves the doubt.
pub(crate) async fn commit_without_response_is_in_doubt(engine: &impl Engine) -> Result<()> {
    let proxy = Proxy::start(engine.server().port()).await?;
    let destination = engine.with(|credentials, options| {
        credentials.port = proxy.port();
        // The proxy reads the protocol to find the COMMIT.
        options.tls = Tls::Off;
    });
    let claim = claim("a.csv");
    let ready = prepare(&destination, &claim, &File::orders(50)).await?;
    proxy.fail_next_commit(CommitFault::CutAfterCommit);
    let result = ready.commit().await;
    ensure!(matches!(result, CommitResult::Unknown(_)), "{result:?}");
    proxy.wait_for_dropped_response(Duration::from_secs(5)).await?;
    proxy.set(Mode::Pass).await?;
    let entry = destination.look_up(&claim.source.id).await?.context("no entry")?;
    assert!(entry.state.needs_no_load());
    Ok(())
}

/// A COMMIT to a stalled server is in doubt after a time limit. Then the ledger and the rows agree.
pub(crate) async fn stalled_commit_is_in_doubt_in_time(engine: &impl Engine) -> Result<()> {
    let proxy = Proxy::start(engine.server().port()).await?;
    let destination = engine.with(|credentials, _| credentials.port = proxy.port());
    let claim = claim("a.csv");
    let ready = prepare(&destination, &claim, &File::orders(50)).await?;
    proxy.set(Mode::Stall).await?;
    let result = tokio::time::timeout(Duration::from_secs(30), ready.commit()).await?;
    ensure!(matches!(result, CommitResult::Unknown(_)), "{result:?}");
    proxy.set(Mode::Pass).await?;
    let direct = engine.destination();
    let mut entry = direct.look_up(&claim.source.id).await;
    while entry.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        entry = direct.look_up(&claim.source.id).await;
    }
    assert_eq!(count(engine).await?, if entry?.is_some() { 50 } else { 0 });
    Ok(())
}

/// A server without free connections is a capacity error, and a read-only server is a failover.
pub(crate) async fn full_or_read_only_server_has_its_error_kind(engine: &impl Engine) -> Result<()> {
    let id = claim("a.csv").file.source.id;
    let mut clients = Vec::new();
    // The server notices closed connections late, so a connection may still become free.
    let error = loop {
        while let Ok(client) = engine.schema().client(engine.server().port()).await {
            clients.push(client);
        }
        if let Err(error) = engine.destination().look_up(&id).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Capacity, "{}", chain(&error));
    drop(clients);

    engine.make_read_only().await?;
    let error = load_error(&engine.destination(), &claim("a.csv"), &File::orders(1)).await?;
    assert_eq!(error.kind(), ErrorKind::Failover, "{}", chain(&error));
    Ok(())
}

/// A server that is killed during a load is a failover. Nothing is stored, and the next attempt loads the file.
pub(crate) async fn server_killed_during_load_is_a_failover(engine: &impl Engine) -> Result<()> {
    let (destination, claim, file) = (engine.destination(), claim("a.csv"), File::orders(2000));
    let schema = file.schema();
    let mut open_load = open(&destination, &claim, &schema).await?;
    write(&mut *open_load, file.stream()).await?;
    engine.server().kill().await?;
    let error = open_load.finalize(claim.body(), Default::default()).await.err().context("the load was finalized")?;
    assert_eq!(error.kind(), ErrorKind::Failover, "{}", chain(&error));
    let error = destination.look_up(&claim.source.id).await.err().context("the look-up succeeded")?;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", chain(&error));
    engine.server().start_again().await?;
    assert_eq!(destination.look_up(&claim.source.id).await?, None);
    load(&destination, &claim, &file).await?;
    assert_eq!(count(engine).await?, 2000);
    Ok(())
}
