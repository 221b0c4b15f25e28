//! Pauses a process under test at a failpoint, so that a test can kill it there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::run::Scratch;
use crate::settings::Settings;
use crate::wait;

/// A failpoint at which one process pauses. The process creates a file there, and waits until the file is deleted.
#[derive(Debug)]
pub struct Pause {
    point: String,
    file: PathBuf,
    _folder: Scratch,
}

impl Pause {
    /// A pause at the failpoint with this name (see `spillway_core::failpoint`).
    pub fn at(point: &str) -> Result<Self> {
        let folder = Scratch::new("pause")?;
        Ok(Self { point: point.to_owned(), file: folder.path().join("reached"), _folder: folder })
    }

    /// The settings that make a process pause there.
    pub fn settings(&self) -> Settings {
        Settings::default().with("SPILLWAY_FAILPOINT", &self.point).with("SPILLWAY_FAILPOINT_FILE", self.file.display())
    }

    /// The names of the failpoints in the file: one, or with `every:trace` all that the process has reached.
    pub fn reached(&self) -> Vec<String> {
        std::fs::read_to_string(&self.file).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The failpoint's name.
    pub fn point(&self) -> &str {
        &self.point
    }

    /// Waits until the process has reached the failpoint.
    pub async fn wait_until_reached(&self, timeout: Duration) -> Result<()> {
        wait::until(&format!("the process to reach {}", self.point), timeout, async || Ok(self.is_reached())).await
    }

    /// Whether the process has reached the failpoint.
    pub fn is_reached(&self) -> bool {
        self.file.exists()
    }

    /// Lets the process continue.
    pub fn release(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.file)?)
    }
}
