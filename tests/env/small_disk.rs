//! A small file system in memory, for tests of a full disk. Only root can mount it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run;

/// A mounted file system. It is unmounted when the value is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a file system of this size on a new folder in `parent`, which PostgreSQL's user owns. `None` without root.
    pub fn mount(parent: &Path, megabytes: u32) -> Result<Option<Self>> {
        if std::fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(None);
        }
        let path = parent.join("disk");
        std::fs::create_dir(&path)?;
        let size = format!("size={megabytes}m");
        run::command(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path))?;
        let disk = Self(path);
        let data = disk.path();
        std::fs::create_dir(&data)?;
        run::command(Command::new("chown").arg("postgres").arg(&data))?;
        Ok(Some(disk))
    }

    /// The folder for data.
    pub fn path(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server may still have a file open.
        let _best_effort = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
