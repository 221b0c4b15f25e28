//! Remembers that the database is down, so that not every file waits `RDS_RETRY_SECONDS` for it.
//!
//! A later file waits less, so it may fall back sooner. Nothing is stored twice. Each file is still tried once, which shows whether the
//! outage has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{ErrorKind, Result};
use crate::policy::is_response;

/// How long an outage stays known without another failure. After that, the next file waits for the database again.
const KNOWN_FOR: Duration = Duration::from_secs(5 * 60);

/// The known outage, if any. Clones share it, and a Lambda function keeps it between invocations.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownOutage(Arc<Mutex<Option<Proof>>>);

/// The last failure that showed the outage.
#[derive(Debug, Clone, Copy)]
struct Proof {
    kind: ErrorKind,
    at: Instant,
}

impl KnownOutage {
    /// The kind of error that showed the outage; `None` if no outage is known.
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        self.kind_at(Instant::now())
    }

    fn kind_at(&self, now: Instant) -> Option<ErrorKind> {
        self.proof().filter(|proof| now.duration_since(proof.at) < KNOWN_FOR).map(|proof| proof.kind)
    }

    /// Whether the known outage explains an error of this kind, so that the file need not wait.
    ///
    /// A database that is down does not explain a rejected password. The password may have been rotated, and then it
    /// helps to read the secret again.
    pub(crate) fn explains(&self, kind: ErrorKind) -> bool {
        self.kind().is_some_and(|known| kind != ErrorKind::Credentials || known == ErrorKind::Credentials)
    }

    /// Notes that a file has waited for the database without success, or that a try during a known outage has failed.
    pub(crate) fn prove(&self, kind: ErrorKind) {
        *self.proof() = Some(Proof { kind, at: Instant::now() });
    }

    /// Ends the outage if the database has responded to a request, even with an error.
    pub(crate) fn observe<T>(&self, result: &Result<T>) {
        let is_available = match result {
            Ok(_) => true,
            Err(error) => is_response(error.kind()),
        };
        if is_available {
            *self.proof() = None;
        }
    }

    fn proof(&self) -> MutexGuard<'_, Option<Proof>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn outage_is_known_for_five_minutes_after_its_last_proof() {
        let outage = KnownOutage::default();
        let start = Instant::now();
        assert_eq!(outage.kind_at(start), None);
        outage.prove(ErrorKind::Unreachable);
        let minute = Duration::from_secs(60);
        assert_eq!(outage.kind_at(start + 4 * minute), Some(ErrorKind::Unreachable));
        assert_eq!(outage.kind_at(start + 6 * minute), None);
    }

    #[test]
    fn rejected_password_is_an_outage_of_its_own() {
        let outage = KnownOutage::default();
        assert!(!outage.explains(ErrorKind::Unreachable), "no outage is known");
        outage.prove(ErrorKind::Unreachable);
        assert!(outage.explains(ErrorKind::Failover) && !outage.explains(ErrorKind::Credentials));
        outage.prove(ErrorKind::Credentials);
        assert!(outage.explains(ErrorKind::Failover) && outage.explains(ErrorKind::Credentials));
    }

    #[test]
    fn only_a_response_of_the_database_ends_the_outage() {
        for kind in ErrorKind::ALL {
            let outage = KnownOutage::default();
            outage.prove(ErrorKind::Failover);
            outage.clone().observe(&Err::<(), _>(Error::new(*kind, "x")));
            let is_over = matches!(
                kind,
                ErrorKind::Conflict
                    | ErrorKind::Privilege
                    | ErrorKind::TableMismatch
                    | ErrorKind::DataRefused
                    | ErrorKind::ExportRefused
                    | ErrorKind::DatabaseFull
            );
            assert_eq!(outage.kind().is_none(), is_over, "{kind}");
        }
        let outage = KnownOutage::default();
        outage.prove(ErrorKind::Failover);
        outage.observe(&Ok(()));
        assert_eq!(outage.kind(), None);
    }
}
