//! Random values in random spellings (`docs/types.md`), on real servers: the stored value is the meaning of the text in the file, and
//! what has two meanings is refused, or text in a new table.
//!
//! Each run uses new values. A failure names the seed; the variable `SPILLWAY_TEST_SEED` repeats its values.

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use jiff::civil::{Date, DateTime};
use spillway_core::destination::LoadMethod;
use spillway_core::error::ErrorKind;
use spillway_test_env::run::random_numbers;

use crate::engines::conformance::{Engine, File, TABLE, claim, expect_loaded, load};
use crate::engines::mysql::MySql;
use crate::engines::postgres::Postgres;

const ROWS: usize = 400;

/// A text of the file, and what it means in the words of [`normal`]; `None` for NULL.
type Spelled = (String, Option<String>);

/// A kind of column, its type on MySQL and on PostgreSQL, and its random values.
type Kind = (&'static str, [&'static str; 2], fn(&mut Rng) -> (String, String));

const KINDS: [Kind; 7] = [
    ("whole", ["BIGINT", "bigint"], whole),
    ("amount", ["DECIMAL(30,8)", "numeric(30,8)"], amount),
    ("ratio", ["DOUBLE", "double precision"], ratio),
    ("day_", ["DATE", "date"], day),
    ("moment", ["DATETIME(6)", "timestamp(6)"], moment),
    ("clock", ["TIME(6)", "time(6)"], clock),
    ("flag", ["TINYINT(1)", "boolean"], flag),
];

fn pick<'a>(rng: &mut Rng, texts: &[&'a str]) -> &'a str {
    texts[rng.usize(..texts.len())]
}

fn whole(rng: &mut Rng) -> (String, String) {
    let value = match rng.u8(..4) {
        0 => rng.i64(..),
        1 => rng.i64(-9..=9),
        _ => rng.i64(-1_000_000..=1_000_000) * 10,
    };
    let value = if value == 0 { 1 } else { value };
    let text = value.to_string();
    let spelled = match rng.u8(..7) {
        // Three zeros could be thousands.
        0 => format!("{text}.{}", pick(rng, &["", "0", "00", "0000"])),
        1 => format!("{text}{}", pick(rng, &["e0", "E+0", "e-0"])),
        2 => format!("{text}00e-2"),
        3 if value > 0 => format!("+{text}"),
        4 if value % 10 == 0 => format!("{}e1", value / 10),
        _ => text.clone(),
    };
    (spelled, text)
}

fn amount(rng: &mut Rng) -> (String, String) {
    let (units, millionths) = (rng.u64(..1_000_000_000_000), rng.u32(1..1_000_000));
    let sign = if rng.bool() { "-" } else { "" };
    let (units, fraction) = if rng.u8(..4) == 0 { (0, millionths) } else { (units, millionths) };
    let fraction = format!("{fraction:06}");
    let meaning = format!("{sign}{units}.{fraction}00");
    let plus = if sign.is_empty() { pick(rng, &["", "+"]) } else { "-" };
    let spelled = match rng.u8(..6) {
        0 if units == 0 => format!("{plus}.{fraction}"),
        1 => format!("{plus}{units}.{fraction}{}", "0".repeat(rng.usize(..9))),
        2 => format!("{plus}{units}{fraction}{}", pick(rng, &["e-6", "E-06"])),
        3 => format!("{plus}00{units}.{fraction}"),
        4 => format!("{plus}{units}.{fraction}e0"),
        _ => format!("{sign}{units}.{fraction}"),
    };
    // A whole number with leading zeros is a code.
    if spelled.contains('.') || units > 0 { (spelled, meaning) } else { (format!("{sign}0.{fraction}"), meaning) }
}

fn ratio(rng: &mut Rng) -> (String, String) {
    let value = loop {
        let value = f64::from_bits(rng.u64(..));
        if value.is_finite() && (1e-300..1e300).contains(&value.abs()) {
            break value;
        }
    };
    let spelled = match rng.u8(..3) {
        0 => format!("{value:.16e}"),
        1 => format!("{value:e}"),
        _ if value > 0.0 => format!("+{value:e}"),
        _ => format!("{value:E}"),
    };
    (spelled, format!("{value:e}"))
}

/// A date from 1000 to 9999.
fn date(rng: &mut Rng) -> Date {
    let year = rng.i16(1000..=9999);
    let month = rng.i8(1..=12);
    let first = jiff::civil::date(year, month, 1);
    jiff::civil::date(year, month, rng.i8(1..=first.days_in_month()))
}

fn spelled_date(rng: &mut Rng, date: Date) -> String {
    let (year, month, day) = (date.year(), date.month(), date.day());
    match rng.u8(..6) {
        0 => format!("{year}{month:02}{day:02}"),
        1 => format!("{year}/{month:02}/{day:02}"),
        2 => format!("{year}/{month}/{day}"),
        3 => format!("{year}-{month}-{day}"),
        _ => format!("{year}-{month:02}-{day:02}"),
    }
}

fn day(rng: &mut Rng) -> (String, String) {
    let date = date(rng);
    let midnight = pick(rng, &["", "", " 00:00", " 0:00:00", "T00:00:00", " 00:00:00.000", "T00:00:00.000000000"]);
    (spelled_date(rng, date) + midnight, date.to_string())
}

/// A time of day in some spelling, and its microseconds.
fn spelled_clock(rng: &mut Rng) -> (String, i64) {
    let (hour, minute, second) = (rng.i64(0..24), rng.i64(0..60), rng.i64(0..60));
    let hours = if rng.bool() { format!("{hour:02}") } else { hour.to_string() };
    let minutes = (hour * 60 + minute) * 60_000_000;
    let micros = rng.i64(0..1_000_000);
    match rng.u8(..5) {
        0 => (format!("{hours}:{minute:02}"), minutes),
        1 => (format!("{hours}:{minute:02}:{second:02}"), minutes + second * 1_000_000),
        2 => {
            let millis = micros / 1_000;
            (format!("{hours}:{minute:02}:{second:02}.{millis:03}"), minutes + second * 1_000_000 + millis * 1_000)
        }
        zeros => {
            let zeros = "0".repeat(usize::from(zeros - 3) * 3);
            (format!("{hours}:{minute:02}:{second:02}.{micros:06}{zeros}"), minutes + second * 1_000_000 + micros)
        }
    }
}

fn moment(rng: &mut Rng) -> (String, String) {
    // An offset must not lead beyond the years of MySQL.
    let date = jiff::civil::date(rng.i16(1001..=9998), rng.i8(1..=12), rng.i8(1..=28));
    let midnight = date.at(0, 0, 0, 0);
    if rng.u8(..8) == 0 {
        return (spelled_date(rng, date), text_of(midnight));
    }
    let (clock, micros) = spelled_clock(rng);
    let hours = rng.i64(0..15);
    let (offset, minutes) = match rng.u8(..8) {
        0 => (pick(rng, &["Z", "z", " Z", "UTC", " UTC", " utc", "+00", " +0000", "-00:00"]).to_owned(), 0),
        1 => (format!("+{hours:02}"), hours * 60),
        2 => (format!(" -{hours:02}30"), -(hours * 60 + 30)),
        3 => (format!("-{hours:02}:15"), -(hours * 60 + 15)),
        _ => (String::new(), 0),
    };
    let meaning = midnight + jiff::SignedDuration::from_micros(micros) - jiff::SignedDuration::from_mins(minutes);
    (format!("{}{}{clock}{offset}", spelled_date(rng, date), pick(rng, &[" ", "T"])), text_of(meaning))
}

fn text_of(moment: DateTime) -> String {
    normal("moment", &moment.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

fn clock(rng: &mut Rng) -> (String, String) {
    loop {
        let (text, micros) = spelled_clock(rng);
        // MySQL's TIME is a duration, so a text without seconds is not clear.
        if text.matches(':').count() == 2 {
            let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
            let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            return (text, normal("clock", &format!("{hour:02}:{minute:02}:{second:02}.{fraction:06}")));
        }
    }
}

fn flag(rng: &mut Rng) -> (String, String) {
    let value = rng.bool();
    let word = match value {
        true => pick(rng, &["true", "t", "yes", "y", "on", "1", "1.0"]),
        false => pick(rng, &["false", "f", "no", "n", "off", "0", "0.0"]),
    };
    let spelled = word.chars().map(|letter| if rng.bool() { letter.to_ascii_uppercase() } else { letter }).collect();
    (spelled, value.to_string())
}

/// A random value, or sometimes a null token.
fn spelled(rng: &mut Rng, value: fn(&mut Rng) -> (String, String)) -> Spelled {
    if rng.u8(..10) == 0 {
        return (pick(rng, &["NULL", "null", "NA", "n/a", "None", "nil", "#N/A", "<NA>", "\\N", ""]).to_owned(), None);
    }
    let (text, meaning) = value(rng);
    (text, Some(meaning))
}

/// A stored value, in one form for all servers.
fn normal(kind: &str, text: &str) -> String {
    match (kind, text) {
        ("ratio", text) => text.parse::<f64>().map_or_else(|_| text.to_owned(), |value| format!("{value:e}")),
        ("moment" | "clock", text) if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        ("flag", "1" | "t") => "true".to_owned(),
        ("flag", "0" | "f") => "false".to_owned(),
        (_, text) => text.to_owned(),
    }
}

async fn check_meanings(engine: &impl Engine, engine_index: usize) -> Result<()> {
    let (mut rng, seed) = random_numbers();
    let columns = KINDS.map(|(name, types, _)| format!("{name} {}", types[engine_index]));
    engine.rows(&format!("CREATE TABLE {TABLE} (n INT, {})", columns.join(", "))).await?;
    let values: Vec<[Spelled; 7]> = (0..ROWS).map(|_| KINDS.map(|(.., value)| spelled(&mut rng, value))).collect();
    let row = |(index, row): (usize, &[Spelled; 7])| {
        let fields = row.iter().map(|(text, _)| Some(text.clone()));
        std::iter::once(Some(index.to_string())).chain(fields).collect()
    };
    let names: Vec<&str> = std::iter::once("n").chain(KINDS.map(|(name, ..)| name)).collect();
    let file = File::large(&names, values.iter().enumerate().map(row).collect(), 100);
    let loaded = load(&engine.destination(), &claim("a.csv"), &file).await;
    if let Err(error) = &loaded
        && let (Some(position), Some(column)) = (error.position(), error.column())
    {
        let index = KINDS.iter().position(|(name, ..)| *name == column).context("another column")?;
        let text = &values[position.record as usize - 1][index].0;
        anyhow::bail!("seed {seed}: {column} {text:?}: {error}");
    }
    expect_loaded(loaded.with_context(|| format!("seed {seed}"))?)?;
    let stored = engine.rows(&format!("SELECT {} FROM {TABLE} ORDER BY n", names[1..].join(", "))).await?;
    ensure!(stored.len() == ROWS, "seed {seed}: {} rows", stored.len());
    for (row, stored) in values.iter().zip(stored) {
        for (((name, ..), (text, meaning)), stored) in KINDS.iter().zip(row).zip(stored) {
            let stored = stored.map(|stored| normal(name, &stored));
            ensure!(stored == *meaning, "seed {seed}: {name} {text:?} is stored as {stored:?} instead of {meaning:?}");
        }
    }
    Ok(())
}

/// Whether a day and a month are a date of some year that is not a leap year.
fn is_date(day: u8, month: u8) -> bool {
    jiff::civil::Date::new(2023, month as i8, day as i8).is_ok()
}

/// Random columns of dates that end with their year: an order that only one reading allows is used, and all others are refused.
async fn check_orders(engine: &impl Engine) -> Result<()> {
    let (mut rng, seed) = random_numbers();
    for file_number in 0..15 {
        let (separator, most) = (pick(&mut rng, &["/", ".", "-"]), rng.u8(10..=31));
        let pairs: Vec<(u8, u8)> = (0..rng.usize(1..5)).map(|_| (rng.u8(1..=most), rng.u8(1..=most.min(14)))).collect();
        let texts: Vec<String> = pairs.iter().map(|(a, b)| format!("{a:02}{separator}{b:02}{separator}2023")).collect();
        let is_day_first = pairs.iter().all(|(a, b)| is_date(*a, *b));
        let is_month_first = pairs.iter().all(|(a, b)| is_date(*b, *a));
        let meaning = |(a, b): &(u8, u8)| {
            if is_day_first { format!("2023-{b:02}-{a:02}") } else { format!("2023-{a:02}-{b:02}") }
        };
        let is_proved = is_day_first != is_month_first;
        for column in [Some("DATE"), Some("VARCHAR(20)"), None] {
            engine.rows(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
            if let Some(column) = column {
                engine.rows(&format!("CREATE TABLE {TABLE} (n INT, c {column})")).await?;
            }
            let rows =
                texts.iter().enumerate().map(|(n, text)| vec![Some(n.to_string()), Some(text.clone())]).collect();
            let key = format!("{file_number} {column:?}.csv");
            let loaded = load(&engine.destination(), &claim(&key), &File::large(&["n", "c"], rows, 2)).await;
            let context = || format!("seed {seed}: {texts:?} in {column:?}");
            if column == Some("DATE") && !is_proved {
                let kind = loaded.err().with_context(context)?.kind();
                ensure!(kind == ErrorKind::DataRefused, "{}: {kind}", context());
                continue;
            }
            expect_loaded(loaded.with_context(context)?)?;
            let stored = engine.rows(&format!("SELECT c FROM {TABLE} ORDER BY n")).await?.concat();
            let stays_text = column == Some("VARCHAR(20)") || !is_proved;
            let expected: Vec<Option<String>> = match stays_text {
                true => texts.iter().cloned().map(Some).collect(),
                false => pairs.iter().map(meaning).map(Some).collect(),
            };
            ensure!(stored == expected, "{}: {stored:?}", context());
        }
    }
    Ok(())
}

#[tokio::test]
async fn stored_value_is_the_meaning_of_its_spelling_mariadb() -> Result<()> {
    for method in [LoadMethod::LoadData, LoadMethod::Insert] {
        check_meanings(&MySql::new(method).await?, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn stored_value_is_the_meaning_of_its_spelling_postgres() -> Result<()> {
    check_meanings(&Postgres::new().await?, 1).await
}

#[tokio::test]
async fn ambiguous_dates_are_refused_or_text_mariadb() -> Result<()> {
    check_orders(&MySql::new(LoadMethod::LoadData).await?).await
}

#[tokio::test]
async fn ambiguous_dates_are_refused_or_text_postgres() -> Result<()> {
    check_orders(&Postgres::new().await?).await
}
