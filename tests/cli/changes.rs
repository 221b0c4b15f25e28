//! A chain of exports: the deltas of `spillway diff` applied one by one, and each export mirrored, give the same table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::{Engine, Rows};
use spillway_test_env::run::random_numbers;
use spillway_test_env::terminal::spillway;

use super::site::{Site, report};

/// A row's price and note.
type Row = (String, Option<String>);

/// The rows of an export by id, as CSV.
fn export(rows: &BTreeMap<u32, Row>) -> String {
    let note = |note: &Option<String>| note.as_ref().map(|text| format!("\"{text}\"")).unwrap_or_default();
    rows.iter().fold("id,price,note\n".to_owned(), |text, (id, (price, text_note))| {
        text + &format!("{id},{price},{}\n", note(text_note))
    })
}

/// Deletes, changes and adds random rows.
fn change_randomly(rows: &mut BTreeMap<u32, Row>, random: &mut fastrand::Rng) {
    let share = [0.0, 0.1, 0.4][random.usize(..3)];
    rows.retain(|_, _| random.f64() >= share);
    for row in rows.values_mut() {
        if random.f64() < share {
            row.0 = format!("{}.50", random.u8(..9));
        }
    }
    for _ in 0..random.usize(1..30) {
        let note = ["first", "", "it's, here", "ä"].get(random.usize(..5)).map(|text| (*text).to_owned());
        rows.insert(random.u32(1..200), (format!("{}.25", random.u8(..9)), note));
    }
}

async fn rows(site: &Site, table: &str) -> Result<Rows> {
    let query = format!("SELECT CONCAT(id, ''), CONCAT(price, ''), note FROM {{schema}}.{table} ORDER BY id");
    site.server.query(&site.schema, &query).await
}

#[rstest]
#[tokio::test]
async fn deltas_and_mirrored_exports_give_the_newest_rows(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (mut random, seed) = random_numbers();
    let site = Site::on(engine).await?;
    for table in ["orders", "mirrored"] {
        let columns = "id INT PRIMARY KEY, price DECIMAL(9,2) NOT NULL, note VARCHAR(50)";
        site.sql(&format!("CREATE TABLE {{schema}}.{table} ({columns})")).await?;
    }
    let settings = site.settings().with("JSON_VALUES", "changes").with("MIRROR_MAX_DELETES", 100);
    let mut current: BTreeMap<u32, Row> = (1..40).map(|id| (id, ("1.25".to_owned(), Some("old".to_owned())))).collect();
    let mut old: Option<String> = None;
    for step in 0..10 {
        let new = site.file(&format!("export {step}.csv"), export(&current))?;
        let delta = site.path(&format!("delta {step}.jsonl.zst")).display().to_string();
        let compared: Vec<&str> = match &old {
            Some(old) => vec!["diff", old, &new, "--key", "id", "--output", &delta, "--json"],
            None => vec!["diff", "--first", &new, "--key", "id", "--output", &delta, "--json"],
        };
        let summary = spillway(&settings, &compared).await?.ensure_code(0)?.json()?;
        let apply = ["load", &delta, "--json", "--table", "orders", "--mode", "changes", "--key", "id"];
        let applied = report(&spillway(&settings, &apply).await?.ensure_code(0)?)?;
        let mirror = ["load", &new, "--json", "--table", "mirrored", "--mode", "mirror", "--key", "id"];
        let mirrored = report(&spillway(&settings, &mirror).await?.ensure_code(0)?)?;
        let count = |report: &Value, name: &str| report[name].as_u64().unwrap_or_default();
        for (name, expected) in [("rows_updated", "updated"), ("rows_deleted", "deleted")] {
            let expected = summary[expected].as_u64().with_context(|| format!("no counts: {summary}"))?;
            assert_eq!(count(&applied, name), expected, "step {step}, seed {seed}: {applied}");
            assert_eq!(count(&mirrored, name), expected, "step {step}, seed {seed}: {mirrored}");
        }
        assert_eq!(count(&applied, "rows_missing"), 0, "step {step}, seed {seed}: {applied}");
        let wanted: Rows = current
            .iter()
            .map(|(id, (price, note))| vec![Some(id.to_string()), Some(price.clone()), note.clone()])
            .collect();
        assert_eq!(rows(&site, "orders").await?, wanted, "step {step}, seed {seed}");
        assert_eq!(rows(&site, "mirrored").await?, wanted, "step {step}, seed {seed}");
        // A delta that is applied again is not loaded again.
        let again = report(&spillway(&settings, &apply).await?.ensure_code(0)?)?;
        ensure!(again["outcome"] == json!("already_loaded"), "{again}");
        old = Some(new);
        change_randomly(&mut current, &mut random);
    }
    Ok(())
}
