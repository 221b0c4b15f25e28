//! The declarations themselves: each once, with valid defaults, read by the programs that they name.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use super::setting::{Category, Declared, ReadBy};
use super::tests::{BASE, ECS};
use super::{Environment, IngestSettings, TaskSettings, TriggerSettings, settings};
use crate::launch::{OBJECT_VARIABLES, REQUEST_VARIABLE};
use crate::telemetry::LogSettings;

#[test]
fn a_setting_is_declared_once_and_accepts_its_own_default_and_words() {
    let mut names = HashSet::new();
    for setting in settings::all() {
        let info = setting.info();
        assert!(names.insert(info.name), "{} is declared twice", info.name);
        assert!(info.text.trim().ends_with('.'), "the text of {} is a sentence", info.name);
        assert!(
            info.default.is_none_or(|default| !default.is_empty() && setting.is_accepted(default)),
            "{}",
            info.name
        );
        for word in setting.choices().into_iter().flatten() {
            assert!(setting.is_accepted(word) && setting.is_accepted(&word.to_uppercase()), "{}: {word}", info.name);
        }
    }
}

#[test]
fn aliases_are_accepted() {
    let accepts = |setting: &dyn Declared, words: &[&str]| words.iter().all(|word| setting.is_accepted(word));
    assert!(accepts(&settings::LOG_LEVEL, &["warning", "FATAL", "critical"]));
    assert!(accepts(&settings::RDS_ENGINE, &["mysql", "MariaDB", "aurora", "aurora-mysql"]));
    assert!(accepts(&settings::RDS_ENGINE, &["postgres", "postgresql", "aurora-postgresql"]));
    assert!(accepts(&settings::CSV_DELIMITER, &["tab", "\\t", "\t", ";", "AUTO"]));
}

#[test]
fn words_for_booleans_and_delimiters_are_read() {
    for setting in [&settings::CSV_HEADER, &settings::CATALOG_RAW] {
        for (words, expected) in [(["true", "YES", "on", "1"], true), (["False", "no", "OFF", "0"], false)] {
            assert!(words.iter().all(|word| setting.value.parse(word) == Ok(expected)), "{words:?}");
        }
        assert_eq!(setting.accepts(), "true or false (also yes, on, 1, no, off, 0)");
        assert!(!setting.is_accepted("y") && !setting.is_accepted("2"));
    }
    for (word, byte) in [("comma", b','), ("Semicolon", b';'), ("TAB", b'\t'), ("pipe", b'|'), ("space", b' ')] {
        assert_eq!(settings::CSV_DELIMITER.value.parse(word), Ok(Some(byte)), "{word}");
        assert!(settings::CSV_DELIMITER.accepts().contains(&word.to_lowercase()));
    }
    assert!(!settings::CSV_DELIMITER.is_accepted("colon"));
}

/// Values with which a program reads every setting that it can read.
const FULL: [&[(&str, &str)]; 3] = [
    &[("RDS_HOST", ""), ("RDS_SECRET_NAME", "s"), ("CSV_KEY", "k"), ("RUST_LOG", ""), ("GLUE_JOB", "j")],
    &[("CSV_PREFIX", "in/"), ("AWS_LAMBDA_LOG_LEVEL", "info"), ("RDS_TLS", "verify")],
    &[],
];

/// The names of all settings that a program looks up.
fn looked_up(memory: &'static str, read: impl Fn(&Environment)) -> HashSet<String> {
    let names = Arc::new(Mutex::new(HashSet::new()));
    for more in FULL {
        let seen = Arc::clone(&names);
        let values: Vec<(&str, &str)> =
            [&BASE[..], &ECS, more, &[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory)]].concat();
        let environment = Environment::with_lookup(move |name| {
            seen.lock().unwrap().insert(name.to_owned());
            values.iter().rfind(|pair| pair.0 == name).map(|pair| OsString::from(pair.1))
        });
        read(&environment);
        LogSettings::read(&environment).unwrap();
    }
    names.lock().unwrap().clone()
}

#[test]
fn each_program_reads_the_settings_that_are_declared_for_it() {
    let programs = [
        (ReadBy::Trigger, looked_up("512", |environment| drop(TriggerSettings::read(environment).unwrap()))),
        (ReadBy::IngestAndTask, looked_up("512", |environment| drop(IngestSettings::read(environment).unwrap()))),
        (ReadBy::Task, looked_up("", |environment| drop(TaskSettings::read(environment).unwrap()))),
    ];
    for (program, names) in &programs {
        for info in settings::all().map(Declared::info) {
            let is_task = *program == ReadBy::Task;
            let is_declared = match info.read_by {
                ReadBy::All => true,
                ReadBy::Functions => !is_task,
                ReadBy::Trigger => *program == ReadBy::Trigger,
                ReadBy::IngestAndTask => *program != ReadBy::Trigger,
                ReadBy::Task => is_task,
                ReadBy::Stream
                | ReadBy::Exports
                | ReadBy::ExportsAndCommandLine
                | ReadBy::CommandLine
                | ReadBy::TestBuilds => false,
            };
            // The SDK reads this one. Variables of a platform are looked up everywhere and set only there.
            let is_exempt = info.name == "AWS_ENDPOINT_URL" || info.category == Category::Platform;
            assert!(is_exempt || names.contains(info.name) == is_declared, "{program:?}: {}", info.name);
        }
    }
    let read: HashSet<&String> = programs.iter().flat_map(|(_, names)| names).collect();
    for info in settings::all().map(Declared::info).filter(|info| info.category == Category::Platform) {
        assert!(read.contains(&info.name.to_owned()), "{}", info.name);
    }
}

#[test]
fn a_started_task_reads_the_object_from_the_variables_that_the_launcher_sets() {
    let declared =
        [&settings::S3_BUCKET, &settings::CSV_KEY, &settings::CSV_VERSION_ID].map(|setting| setting.info.name);
    assert_eq!(declared, [OBJECT_VARIABLES.bucket, OBJECT_VARIABLES.key, OBJECT_VARIABLES.version_id]);
    assert_eq!(settings::TASK_REQUEST.info.name, REQUEST_VARIABLE);
}
