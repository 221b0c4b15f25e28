//! Every setting, declared once. A variable that is not declared here is not read.

mod database;
mod exports;
mod fallback;
mod files;
mod loading;
mod programs;
mod storage;
mod streams;

pub use database::*;
pub use exports::*;
pub use fallback::*;
pub use files::*;
pub use loading::*;
pub use programs::*;
pub use storage::*;
pub use streams::*;

use super::setting::Declared;

/// The declarations, by category.
const ALL: [&[&dyn Declared]; 14] = [
    storage::STORAGE,
    database::DATABASE,
    loading::LOADING,
    files::FILES,
    files::LIMITS,
    fallback::FALLBACK,
    programs::TASKS,
    streams::STREAMS,
    exports::EXPORTS,
    programs::OUTCOMES,
    programs::REQUEST,
    programs::LOGS,
    programs::PLATFORM,
    programs::TESTING,
];

/// Every declared setting, in the order of `docs/settings.md`.
pub fn all() -> impl Iterator<Item = &'static dyn Declared> {
    ALL.into_iter().flatten().copied()
}
