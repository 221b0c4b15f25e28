//! A slice of the batteries of `make faults`: one fault other than `kill -9` at each failpoint, and a few runs of the others.

use anyhow::{Result, ensure};
use futures_util::{StreamExt, stream};
use rstest::rstest;
use spillway_core::failpoint::Failpoint;
use spillway_test_env::database::Engine;
use spillway_test_env::faults::Case;
use spillway_test_env::faults::concurrency::Crowd;
use spillway_test_env::faults::matrix::{Fault, Program, Setup};
use spillway_test_env::faults::scene::Mode;
use spillway_test_env::fixture::Verdict;

/// Most of a run's time is the wait until leases expire.
const AT_ONCE: usize = 6;

/// The mode in which a worker reaches the failpoint, or the reason why this battery cannot reach it.
fn mode(point: Failpoint) -> Result<Mode, &'static str> {
    use Failpoint as P;
    Ok(match point {
        P::EventParsed
        | P::FallbackLookedUp
        | P::LeaseWritten
        | P::HeadersRead
        | P::BodyFirstByte
        | P::BodyHalf
        | P::BodyEnd
        | P::Inferred
        | P::TableMade
        | P::Begun
        | P::Claimed
        | P::RowsFirst
        | P::RowsHalf
        | P::RowsAll
        | P::BeforeLedgerEnd
        | P::BeforeCommit
        | P::AfterCommit
        | P::AfterCopy
        | P::BeforeDelete
        | P::AfterDelete => Mode::Append,
        P::OldRowsDeleted => Mode::Replace,
        P::MissingRowsDeleted => Mode::Mirror,
        P::BeforeRejects | P::RejectsLookedUp | P::RejectsWritten => Mode::Rejects,
        P::AfterInsertSelect | P::BeforeStagingDrop => Mode::Staged,
        P::ManifestWritten | P::RowsFenced | P::RowsCompleted | P::CatalogTableMade | P::PartitionMade => {
            Mode::Fallback
        }
        P::LakePublished => Mode::Both,
        P::AfterRunTask => return Err("it needs a file that the trigger function dispatches to Fargate"),
        P::GluePlanWritten | P::GlueRunStarted | P::GlueRunRecorded => {
            return Err("only a file for the Glue job reaches it");
        }
        P::SyncListed | P::SyncFilesDone => return Err("only a sync reaches it"),
        P::ExtractPartSent
        | P::ExtractPlanned
        | P::ExtractPartVisible
        | P::ExtractPartsVisible
        | P::ExtractManifestWritten => return Err("only an extract reaches it"),
        P::ImportRegistered
        | P::ImportLocked
        | P::ImportDeltaWritten
        | P::ImportPlanned
        | P::ImportApplied
        | P::ImportPublished
        | P::ImportFinished => return Err("only an import of exports reaches it"),
        P::RawRegistered => return Err("its files stay in place"),
        P::StagingChunk => return Err("it needs a file of more than 64 MiB"),
        P::RowsPartSent => return Err("it needs a file of more than 8 MiB"),
        P::MidPartCopy => return Err("S3 copies in parts only objects above 5 GB"),
    })
}

/// An error, a panic, a stop signal or a stall at each failpoint.
#[rstest]
#[tokio::test]
async fn each_failpoint_once(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let faults = [Fault::Panic, Fault::Error, Fault::Terminate, Fault::Halt];
    let reachable = Failpoint::ALL.into_iter().filter_map(|point| Some((point, mode(point).ok()?)));
    let cases = reachable.filter(|(_, mode)| mode.is_on(engine)).enumerate().map(|(number, (point, mode))| {
        // The other engine has the next kind of fault and the next program at the same failpoint.
        let fault = faults[(number + engine as usize) % faults.len()];
        let program = match point {
            Failpoint::EventParsed => Program::Trigger,
            _ => Program::ALL[(number / faults.len() + engine as usize) % Program::ALL.len()],
        };
        Case::Point(Setup { engine, mode, program }, point.name(), fault)
    });
    run_all(cases.collect(), 20_261_130).await
}

/// Links that break, workers that are killed at random moments, and many workers at once.
#[rstest]
#[case::random("random", 8)]
#[case::wire("wire", 16)]
#[tokio::test]
async fn random_cases(#[case] battery: &str, #[case] runs: u64) -> Result<()> {
    let (_, seed) = spillway_test_env::run::random_numbers();
    let found = stream::iter(0..runs)
        .map(|number| async move {
            let seed = seed.wrapping_add(number);
            let case = Case::random(battery, seed).expect("the battery exists");
            (case.run(seed).await, case, seed)
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut fired = 0;
    for (outcome, case, seed) in found {
        let outcome = outcome?;
        ensure!(outcome.verdict == Verdict::default(), "{case} seed={seed}: {:#?}", outcome.verdict);
        fired += outcome.fired;
    }
    ensure!(fired > 0, "no fault occurred with the seed {seed}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn many_workers_at_once(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let crowds = [Crowd::Same(2), Crowd::Same(8), Crowd::Versions, Crowd::Beside];
    run_all(crowds.map(|crowd| Case::Concurrency(engine, crowd)).to_vec(), 20_261_130).await
}

/// Runs the cases, and fails unless each fault occurred and nothing is wrong after it.
async fn run_all(cases: Vec<Case>, seed: u64) -> Result<()> {
    let found = stream::iter(cases)
        .map(|case| async move { (case.run(seed).await, case) })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    for (outcome, case) in found {
        let outcome = outcome?;
        ensure!(outcome.fired > 0, "{case}: the fault did not occur");
        ensure!(outcome.verdict == Verdict::default(), "{case} seed={seed}: {:#?}", outcome.verdict);
    }
    Ok(())
}
