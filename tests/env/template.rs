//! Initialized data folders of database servers. Each is created once, and kept beside the build output for later runs.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run;

/// Copies the template of this name to the destination. If it is missing, `create` creates it in the folder it is given.
pub(crate) fn copy(name: &str, destination: &Path, create: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let own = std::env::current_exe()?;
    let build_folder = own.parent().context("this process has no folder")?;
    let template = build_folder.join(format!("spillway-{name}-template"));
    let lock = File::options().create(true).append(true).open(template.with_extension("lock"))?;
    lock.lock().context("cannot lock the template of the data folder")?;
    if !template.exists() {
        let unfinished = template.with_extension("unfinished");
        let _none_left_over = std::fs::remove_dir_all(&unfinished);
        create(&unfinished)?;
        std::fs::rename(&unfinished, &template)?;
    }
    drop(lock);
    run::command(Command::new("cp").arg("-a").args([template.as_path(), destination]))
}
