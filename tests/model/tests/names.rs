//! The steps of the model have the names of the code's failpoints and functions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use spillway_model::step::{NOT_MODELED, Place, Step};

fn core_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/core/src").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(core_file(name)).unwrap_or_else(|error| panic!("{name} cannot be read: {error}"))
}

/// The variants of `enum Failpoint`.
fn failpoints() -> BTreeSet<String> {
    let text = read("failpoint.rs");
    let (_, after) = text.split_once("pub enum Failpoint {").expect("failpoint.rs declares the enum");
    let (variants, _) = after.split_once("\n}").expect("the enum ends");
    let names = variants.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    names.filter_map(|line| line.strip_suffix(',')).map(str::to_owned).collect()
}

#[test]
fn each_failpoint_is_a_step_or_named_as_not_modeled() {
    let steps = Step::ALL.iter().filter(|step| step.place() == Place::Failpoint).map(|step| format!("{step:?}"));
    let not_modeled = NOT_MODELED.iter().map(|name| (*name).to_owned());
    let named: Vec<String> = steps.chain(not_modeled).collect();
    let unique: BTreeSet<String> = named.iter().cloned().collect();
    assert_eq!(named.len(), unique.len(), "a failpoint is named twice");
    assert_eq!(unique, failpoints());
}

#[test]
fn each_function_of_a_step_exists() {
    for step in Step::ALL {
        let Place::Function(file, function) = step.place() else { continue };
        let (plain, generic) = (format!("fn {function}("), format!("fn {function}<"));
        let text = read(file);
        assert!(text.contains(&plain) || text.contains(&generic), "{step:?}: no function {function} in {file}");
    }
}
