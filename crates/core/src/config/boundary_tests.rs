//! What only this module may do, checked by a scan of the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Rust files of all crates, with their text. Paths are relative to `crates/`.
fn sources() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = vec![crates.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&crates).unwrap().to_string_lossy().into_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

fn is_in_config(file: &str) -> bool {
    file.starts_with("core/src/config/")
}

#[test]
fn only_config_reads_the_environment() {
    let files = sources();
    assert!(files.len() > 100, "the scan finds the sources");
    let readers = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os(", "use std::env"];
    for (file, text) in files.iter().filter(|(file, _)| !is_in_config(file)) {
        let found = readers.iter().find(|reader| text.contains(**reader));
        assert!(found.is_none(), "{file} reads the environment: {found:?}");
    }
}

/// The names that a source imports from this module.
fn imports_from_config(text: &str) -> Vec<&str> {
    let after = text.split("crate::config::").chain(text.split("spillway_core::config::").skip(1)).skip(1);
    after
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest.split(|next: char| !next.is_ascii_alphanumeric()).next().unwrap_or_default()],
        })
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn only_programs_import_config() {
    let example = "use crate::config::{A, B};\nuse x;\nuse spillway_core::config::C;";
    assert_eq!(imports_from_config(example), ["A", "B", "C"]);
    for (file, text) in sources().iter().filter(|(file, _)| !is_in_config(file)) {
        let is_program = file.starts_with("cli/") || !file.starts_with("core/") && file.ends_with("/main.rs");
        for name in imports_from_config(text) {
            assert!(is_program, "{file} imports {name} from config, the top layer");
        }
    }
}
