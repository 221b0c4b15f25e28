//! Holds a process under test at a named point of the road, so that it can be ended exactly there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::run::Scratch;
use crate::settings::Settings;
use crate::wait;

/// A point at which one process is to wait. The process makes the file when it gets there and waits until it is gone.
#[derive(Debug)]
pub struct Pause {
    point: String,
    file: PathBuf,
    _folder: Scratch,
}

impl Pause {
    /// A pause at the point with this name (see `spillway_core::failpoint`).
    pub fn at(point: &str) -> Result<Self> {
        let folder = Scratch::new("pause")?;
        Ok(Self { point: point.to_owned(), file: folder.path().join("reached"), _folder: folder })
    }

    /// The settings that make a process wait there.
    pub fn settings(&self) -> Settings {
        Settings::default().with("SPILLWAY_FAILPOINT", &self.point).with("SPILLWAY_FAILPOINT_FILE", self.file.display())
    }

    /// The point's name.
    pub fn point(&self) -> &str {
        &self.point
    }

    /// Waits until the process is at the point: proof that the point is on its road.
    pub async fn reached(&self, bound: Duration) -> Result<()> {
        wait::until(&format!("the process to reach {}", self.point), bound, async || Ok(self.is_reached())).await
    }

    /// Whether the process is at the point.
    pub fn is_reached(&self) -> bool {
        self.file.exists()
    }

    /// Lets the process go on.
    pub fn release(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.file)?)
    }
}
