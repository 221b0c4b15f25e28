//! The steps of an import of exports, each in a new process, and repeated.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::no_deadline;
use super::{Fixture, Reading, Step};
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Result};
use crate::exports::{Completion, DeltaPublisher, ExportImporter, ImportSettings, ImportTarget, MessageFormat};
use crate::memory_aws::BUCKET;
use crate::store::Store;

const FIRST: &str = "20201230_V0001";
const SECOND: &str = "20201230_V0002";
const THIRD: &str = "20201231_V0001";

/// A bucket with exports of one table, and an empty database.
struct Site {
    fixture: Fixture,
    completion: Completion,
    target: ImportTarget,
}

impl Site {
    fn new() -> Self {
        let mut fixture = Fixture::new(Reading::Buffered);
        fixture.settings.export_key = vec!["id".to_owned()];
        Self { fixture, completion: Completion::Quiet(Duration::ZERO), target: ImportTarget::Database }
    }

    fn put(&self, version: &str, text: &str) -> String {
        let key = format!("tenant/test_table/{version}/export1.csv");
        self.fixture.aws.put(&key, text);
        key
    }

    /// Runs a step in a new process.
    async fn step(&self, step: Value) -> Result<Value> {
        self.step_until(step, &no_deadline()).await
    }

    async fn step_until(&self, step: Value, deadline: &Deadline) -> Result<Value> {
        let settings = ImportSettings {
            pipeline: self.fixture.settings.clone(),
            bucket: BUCKET.to_owned(),
            prefix: String::new(),
            registry_prefix: "export-registry/".to_owned(),
            delta_prefix: "delta/".to_owned(),
            target: self.target.clone(),
            completion: self.completion.clone(),
            max_deletes_percent: 10,
            diff_memory: 1 << 20,
            publish_format: MessageFormat::Debezium,
            publish_max_record_bytes: 1 << 20,
        };
        let publisher = Box::pin(DeltaPublisher::new(self.fixture.settings.clone())).await;
        let store = Store::new(&self.fixture.aws.config());
        let importer = ExportImporter::of(settings, (store, Arc::new(self.fixture.database.clone())), publisher);
        Box::pin(importer.run(&json!({"export": step}), deadline)).await
    }

    async fn register(&self, key: &str) -> Value {
        self.step(json!({"step": "register", "key": key})).await.unwrap()
    }

    async fn lock(&self, version: &str, owner: &str) -> Value {
        self.step(
            json!({"step": "lock", "tenant": "tenant", "table": "test_table", "version": version, "owner": owner}),
        )
        .await
        .unwrap()
    }

    async fn held(&self, step: &str, version: &str, fence: u64) -> Result<Value> {
        self.step(json!({"step": step, "tenant": "tenant", "table": "test_table", "version": version, "fence": fence}))
            .await
    }

    async fn fail(&self, version: &str, fence: u64) -> Value {
        let error = json!({"Error": "why", "Cause": "because"});
        let step = json!({"step": "fail", "tenant": "tenant", "table": "test_table", "version": version, "fence": fence, "error": error});
        self.step(step).await.unwrap()
    }

    /// Imports a version, with each step run twice. Returns the statistics.
    async fn import(&self, version: &str, text: &str) -> Value {
        let key = self.put(version, text);
        for _ in 0..2 {
            assert_eq!(self.register(&key).await["status"], "registered");
        }
        let locked = self.lock(version, "a").await;
        assert_eq!(self.lock(version, "a").await, locked);
        let fence = locked["fence"].as_u64().unwrap();
        for step in ["diff", "apply", "publish", "finish"] {
            let first = self.held(step, version, fence).await.unwrap();
            let again = self.held(step, version, fence).await.unwrap();
            assert_eq!(first["status"], again["status"], "{step}");
        }
        assert_eq!(self.register(&key).await["status"], "done");
        self.record(version)["statistics"].clone()
    }

    fn document(&self, key: &str) -> Value {
        serde_json::from_slice(&self.fixture.aws.get(key).unwrap()).unwrap()
    }

    fn record(&self, version: &str) -> Value {
        self.document(&format!("export-registry/tenant/test_table/versions/{version}.json"))
    }

    fn state(&self) -> Value {
        self.document("export-registry/tenant/test_table/state.json")
    }

    /// The lock expires, as if its owner had died.
    fn expire_lock(&self) {
        let mut state = self.state();
        state["lock"]["expires_at"] = json!("2020-01-01T00:00:00Z");
        self.fixture.aws.put("export-registry/tenant/test_table/state.json", state.to_string());
    }
}

#[tokio::test]
async fn each_version_is_compared_with_the_one_before() {
    let site = Site::new();
    let first = site.import(FIRST, "id,note\n1,one\n2,two\n").await;
    assert_eq!((&first["compared_with"], &first["inserted"], &first["rows"]), (&Value::Null, &json!(2), &json!(2)));
    let second = site.import(SECOND, "id,note\n1,ONE\n2,two\n3,three\n").await;
    let counts =
        |found: &Value| ["inserted", "updated", "deleted", "unchanged"].map(|name| found[name].as_u64().unwrap());
    assert_eq!((&second["compared_with"], counts(&second)), (&json!(FIRST), [1, 1, 0, 1]));
    let third = site.import(THIRD, "id,note\n1,ONE\n3,three\n").await;
    assert_eq!((&third["compared_with"], counts(&third)), (&json!(SECOND), [0, 0, 1, 2]));
    assert_eq!(site.state()["lock"], Value::Null);
    assert_eq!(site.fixture.database.rows().len(), 2 + 2 + 1);
    // An equal export has no changes, and the next one is still compared with it.
    let equal = site.import("20201231_V0002", "id,note\n3,three\n1,ONE\n").await;
    assert_eq!(counts(&equal), [0, 0, 0, 2]);
    assert_eq!(site.import("20201231_V0003", "id,note\n1,one\n3,three\n").await["updated"], 1);
}

#[tokio::test]
async fn older_version_is_stale() {
    let site = Site::new();
    site.import(SECOND, "id\n1\n").await;
    let key = site.put(FIRST, "id\n2\n");
    assert_eq!(site.register(&key).await["status"], "stale");
    assert_eq!(site.record(FIRST)["state"], "stale");
    assert_eq!(site.lock(FIRST, "b").await["status"], "stale");
    // One that was registered before the newer one was imported.
    let site = Site::new();
    assert_eq!(site.register(&site.put(FIRST, "id\n2\n")).await["status"], "registered");
    site.import(SECOND, "id\n1\n").await;
    assert_eq!(site.lock(FIRST, "b").await, json!({"status": "stale", "current": SECOND}));
    assert_eq!(site.record(FIRST)["state"], "stale");
}

#[tokio::test]
async fn one_owner_has_the_lock() {
    let site = Site::new();
    site.register(&site.put(FIRST, "id\n1\n")).await;
    site.register(&site.put(SECOND, "id\n1\n2\n")).await;
    let locked = site.lock(FIRST, "a").await;
    assert_eq!(locked, json!({"status": "locked", "fence": 1, "version": FIRST}));
    assert_eq!(site.lock(SECOND, "b").await, json!({"status": "busy", "seconds": 10}));
    site.expire_lock();
    assert_eq!(site.lock(SECOND, "b").await, json!({"status": "locked", "fence": 2, "version": SECOND}));
    // The first owner was only slow.
    for step in ["diff", "apply", "publish", "finish"] {
        assert_eq!(site.held(step, FIRST, 1).await.unwrap_err().kind(), ErrorKind::LeaseLost, "{step}");
    }
    assert_eq!(site.fail(FIRST, 1).await["status"], "lost");
    assert_eq!(site.held("diff", SECOND, 2).await.unwrap()["status"], "planned");
}

#[tokio::test]
async fn successor_finishes_a_planned_import_first() {
    let site = Site::new();
    site.register(&site.put(FIRST, "id\n1\n")).await;
    site.register(&site.put(SECOND, "id\n1\n2\n")).await;
    site.lock(FIRST, "a").await;
    site.held("diff", FIRST, 1).await.unwrap();
    let delta = site.fixture.aws.get(&format!("delta/tenant/test_table/{FIRST}.jsonl.zst")).unwrap();
    site.expire_lock();
    assert_eq!(site.lock(SECOND, "b").await, json!({"status": "locked", "fence": 2, "version": FIRST}));
    for step in ["diff", "apply", "publish", "finish"] {
        site.held(step, FIRST, 2).await.unwrap();
    }
    assert_eq!(site.fixture.aws.get(&format!("delta/tenant/test_table/{FIRST}.jsonl.zst")).unwrap(), delta);
    assert_eq!(site.lock(SECOND, "b").await, json!({"status": "locked", "fence": 3, "version": SECOND}));
    assert_eq!(site.held("diff", SECOND, 3).await.unwrap()["statistics"]["compared_with"], FIRST);
}

#[tokio::test]
async fn failed_import_is_dropped_unless_it_may_be_stored() {
    let site = Site::new();
    let key = site.put(FIRST, "id\n1\n");
    site.register(&key).await;
    site.lock(FIRST, "a").await;
    site.held("diff", FIRST, 1).await.unwrap();
    site.fixture.database.fail(Step::Begin, ErrorKind::DataRefused);
    assert_eq!(site.held("apply", FIRST, 1).await.unwrap_err().kind(), ErrorKind::DataRefused);
    assert_eq!(site.fail(FIRST, 1).await["status"], "dropped");
    assert_eq!((&site.record(FIRST)["state"], &site.record(FIRST)["error"]), (&json!("failed"), &json!("because")));
    assert_eq!((&site.state()["planned"], &site.state()["lock"]), (&Value::Null, &Value::Null));
    site.fixture.database.heal();
    // Its next attempt uses the delta that exists.
    assert_eq!(site.register(&key).await["status"], "registered");
    let fence = site.lock(FIRST, "b").await["fence"].as_u64().unwrap();
    site.held("diff", FIRST, fence).await.unwrap();
    // The database is down, so it is unknown whether the delta is loaded.
    site.fixture.database.stop();
    assert!(site.held("apply", FIRST, fence).await.is_err());
    assert_eq!(site.fail(FIRST, fence).await["status"], "kept");
    assert_eq!(site.record(FIRST)["state"], "registered");
    assert_eq!(site.state()["planned"]["version"], FIRST);
    site.fixture.database.heal();
    let fence = site.lock(SECOND, "c").await["fence"].as_u64().unwrap();
    site.held("apply", FIRST, fence).await.unwrap();
    assert_eq!(site.fail(FIRST, fence).await["status"], "kept");
}

#[tokio::test]
async fn failure_is_recorded_once_by_repeated_calls() {
    let site = Site::new();
    site.register(&site.put(FIRST, "id\n1\n")).await;
    site.lock(FIRST, "a").await;
    site.held("diff", FIRST, 1).await.unwrap();
    // The call dies after it has changed the number of the lock.
    site.fixture.aws.fail("PutObject", "versions/");
    let step = json!({"step": "fail", "tenant": "tenant", "table": "test_table", "version": FIRST, "fence": 1, "error": {"Error": "why", "Cause": "because"}});
    assert!(site.step(step).await.is_err());
    site.fixture.aws.heal();
    assert_eq!(site.held("apply", FIRST, 1).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    for _ in 0..2 {
        assert_eq!(site.fail(FIRST, 1).await["status"], "dropped");
        assert_eq!((&site.record(FIRST)["state"], &site.state()["lock"]), (&json!("failed"), &Value::Null));
    }
    // The lock of the next import is not that of the failed one.
    assert_eq!(site.lock(FIRST, "b").await["status"], "locked");
    assert_eq!(site.fail(FIRST, 1).await["status"], "lost");
}

/// A request by hand with another version than the planned one.
#[tokio::test]
async fn failure_of_another_version_keeps_the_planned_import() {
    let site = Site::new();
    site.register(&site.put(FIRST, "id\n1\n")).await;
    site.lock(FIRST, "a").await;
    site.held("diff", FIRST, 1).await.unwrap();
    site.fail(SECOND, 1).await;
    assert_eq!(site.state()["planned"]["version"], FIRST);
}

#[tokio::test]
async fn finish_needs_the_steps_before_it() {
    let site = Site::new();
    site.register(&site.put(FIRST, "id\n1\n")).await;
    site.lock(FIRST, "a").await;
    for step in ["apply", "publish", "finish"] {
        assert_eq!(site.held(step, FIRST, 1).await.unwrap_err().kind(), ErrorKind::EventInvalid, "{step}");
    }
    site.held("diff", FIRST, 1).await.unwrap();
    assert_eq!(site.held("finish", FIRST, 1).await.unwrap_err().kind(), ErrorKind::EventInvalid);
}

/// Exports that are not plausible, each with the text of its error. The import of a correct one goes on.
#[tokio::test]
async fn wrong_export_changes_nothing() {
    let many: String = (0..300).map(|id| format!("{id},x\n")).collect();
    for (text, kind, message) in [
        ("", ErrorKind::FileBroken, "has no header"),
        ("id,note\n", ErrorKind::ExportRefused, "lacks 300 of the 300 rows"),
        ("id,note\n1,x\n1,y\n", ErrorKind::FileBroken, "has the same key"),
        ("id,other\n1,x\n", ErrorKind::ExportRefused, "new: other; missing: note"),
        ("other,note\n1,x\n", ErrorKind::FileBroken, "EXPORT_KEY"),
        ("id,note\n1,x,y\n", ErrorKind::FileBroken, ""),
    ] {
        let site = Site::new();
        site.import(FIRST, &format!("id,note\n{many}")).await;
        let rows = site.fixture.database.rows();
        site.register(&site.put(SECOND, text)).await;
        let fence = site.lock(SECOND, "a").await["fence"].as_u64().unwrap();
        let error = site.held("diff", SECOND, fence).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(crate::error::chain(&error).contains(message), "{}", crate::error::chain(&error));
        assert_eq!(site.fail(SECOND, fence).await["status"], "dropped");
        assert_eq!(site.fixture.database.rows(), rows);
        assert_eq!(site.import(THIRD, &format!("id,note\n{many}300,x\n")).await["compared_with"], FIRST);
    }
}

#[tokio::test]
async fn several_files_are_one_export() {
    let mut site = Site::new();
    site.completion = Completion::Manifest("_SUCCESS".to_owned());
    let folder = format!("tenant/test_table/{FIRST}/");
    site.fixture.aws.put(&format!("{folder}a.csv"), "id,note\n1,one\n");
    site.fixture.aws.put(&format!("{folder}b.csv"), "id,note\n2,two\n3,three\n");
    assert_eq!(site.register(&format!("{folder}a.csv")).await["status"], "ignored");
    site.fixture.aws.put(&format!("{folder}_SUCCESS"), "");
    assert_eq!(site.register(&format!("{folder}_SUCCESS")).await["status"], "registered");
    site.lock(FIRST, "a").await;
    let planned = site.held("diff", FIRST, 1).await.unwrap();
    assert_eq!(planned["statistics"]["inserted"], 3);
    for step in ["apply", "publish", "finish"] {
        site.held(step, FIRST, 1).await.unwrap();
    }
    // The manifest names all files of the version.
    site.fixture.aws.put(&format!("{folder}_SUCCESS"), "{\"files\": [\"a.csv\", \"b.csv\"]}");
    site.fixture.aws.put(&format!("{folder}d.csv"), "id,note\n9,of no export\n");
    assert_eq!(site.register(&format!("{folder}_SUCCESS")).await["status"], "done");
    site.fixture.aws.put(&format!("{folder}_SUCCESS"), "");
    site.fixture.aws.delete(&format!("{folder}d.csv"));
    // A file that arrives later would never be imported.
    site.fixture.aws.put(&format!("{folder}c.csv"), "id,note\n4,four\n");
    let error = site.step(json!({"step": "register", "key": format!("{folder}_SUCCESS")})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceChanged);
    assert!(error.to_string().contains("c.csv"), "{error}");
    // A key in two files, and files with different columns.
    for (text, message) in
        [("id,note\n1,x\n", "has the same key"), ("note,id\nx,4\n", "all files of an export need the same columns")]
    {
        let folder = format!("tenant/test_table/{SECOND}/");
        site.fixture.aws.put(&format!("{folder}a.csv"), "id,note\n1,one\n2,two\n");
        site.fixture.aws.put(&format!("{folder}b.csv"), text);
        site.fixture.aws.put(&format!("{folder}_SUCCESS"), "");
        site.register(&format!("{folder}_SUCCESS")).await;
        let fence = site.lock(SECOND, "b").await["fence"].as_u64().unwrap();
        let error = site.held("diff", SECOND, fence).await.unwrap_err();
        assert!(crate::error::chain(&error).contains(message), "{}", crate::error::chain(&error));
        site.fail(SECOND, fence).await;
    }
}

#[tokio::test]
async fn delta_of_other_files_is_written_again() {
    let site = Site::new();
    site.register(&site.put(SECOND, "id\n1\n2\n")).await;
    site.lock(SECOND, "a").await;
    // The worker dies between the delta and the plan.
    site.held("diff", SECOND, 1).await.unwrap();
    let mut state = site.state();
    state["planned"] = Value::Null;
    state["lock"] = Value::Null;
    site.fixture.aws.put("export-registry/tenant/test_table/state.json", state.to_string());
    let delta = || site.fixture.aws.get(&format!("delta/tenant/test_table/{SECOND}.jsonl.zst")).unwrap();
    let before = delta();
    // Meanwhile the first version is imported.
    site.import(FIRST, "id\n1\n").await;
    let fence = site.lock(SECOND, "a").await["fence"].as_u64().unwrap();
    let planned = site.held("diff", SECOND, fence).await.unwrap();
    assert_eq!(planned["statistics"]["inserted"], 1);
    assert_ne!(delta(), before);
}

#[tokio::test]
async fn deleted_file_of_the_export_before_is_an_error() {
    let site = Site::new();
    site.import(FIRST, "id\n1\n").await;
    site.fixture.aws.delete(&format!("tenant/test_table/{FIRST}/export1.csv"));
    site.register(&site.put(SECOND, "id\n1\n2\n")).await;
    let fence = site.lock(SECOND, "a").await["fence"].as_u64().unwrap();
    let error = site.held("diff", SECOND, fence).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExportRefused);
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[tokio::test]
async fn export_that_was_only_published_is_no_base_for_a_table() {
    let site = Site::new();
    site.import(FIRST, "id\n1\n").await;
    let mut state = site.state();
    state["current"]["is_in_table"] = json!(false);
    site.fixture.aws.put("export-registry/tenant/test_table/state.json", state.to_string());
    site.register(&site.put(SECOND, "id\n1\n2\n")).await;
    let fence = site.lock(SECOND, "a").await["fence"].as_u64().unwrap();
    let error = site.held("diff", SECOND, fence).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExportRefused);
    assert!(error.to_string().contains("only published"), "{error}");
}

/// The version after it was planned while changes were only published, and the target is changed before it is applied.
#[tokio::test]
async fn planned_import_needs_the_rows_of_the_one_before() {
    for second in ["id\n1\n2\n", "id\n1\n"] {
        let mut site = Site::new();
        site.import(FIRST, "id\n1\n").await;
        let mut state = site.state();
        state["current"]["is_in_table"] = json!(false);
        site.fixture.aws.put("export-registry/tenant/test_table/state.json", state.to_string());
        site.target = ImportTarget::Stream("changes".to_owned());
        site.register(&site.put(SECOND, second)).await;
        let fence = site.lock(SECOND, "a").await["fence"].as_u64().unwrap();
        site.held("diff", SECOND, fence).await.unwrap();
        site.target = ImportTarget::Database;
        assert_eq!(site.held("apply", SECOND, fence).await.unwrap_err().kind(), ErrorKind::ExportRefused);
        if second == "id\n1\n" {
            site.held("finish", SECOND, fence).await.unwrap();
            assert_eq!(site.state()["current"]["is_in_table"], false);
        }
    }
}

#[tokio::test]
async fn lock_outlasts_the_function() {
    let site = Site::new();
    site.register(&site.put(FIRST, "id\n1\n")).await;
    let step = json!({"step": "lock", "tenant": "tenant", "table": "test_table", "version": FIRST, "owner": "a"});
    site.step_until(step, &Deadline::within(Duration::from_secs(300))).await.unwrap();
    let end: jiff::Timestamp = site.state()["lock"]["expires_at"].as_str().unwrap().parse().unwrap();
    let left = end.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((310..=330).contains(&left), "{left} s");
}

#[tokio::test]
async fn status_lists_tables_and_versions() {
    let site = Site::new();
    site.import(FIRST, "id\n1\n").await;
    site.register(&site.put(SECOND, "id\n1\n2\n")).await;
    let all = site.step(json!({"step": "status"})).await.unwrap();
    assert_eq!(all["tables"][0]["current"]["version"], FIRST);
    let one = site.step(json!({"step": "status", "tenant": "tenant", "table": "test_table"})).await.unwrap();
    let states: Vec<&Value> =
        one["tables"][0]["versions"].as_array().unwrap().iter().map(|found| &found["state"]).collect();
    assert_eq!(states, [&json!("done"), &json!("registered")]);
    assert_eq!(site.step(json!({"step": "status", "tenant": "other"})).await.unwrap()["tables"], json!([]));
}
