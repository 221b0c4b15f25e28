//! Structure, escaping and size of the page.

use jiff::Timestamp;
use spillway_core::destination::{LoadDetails, Run, RunOutcome};

use super::*;

/// Runs at equal distances, newest first, with every outcome among them.
fn runs(number: usize, seconds_between: i64) -> Vec<Run> {
    let end: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
    (0..number)
        .map(|index| {
            let outcome = match index % 20 {
                7 => RunOutcome::FellBack,
                11 => RunOutcome::Rejected,
                13 => RunOutcome::Failed,
                17 => RunOutcome::Duplicate,
                _ => RunOutcome::Loaded,
            };
            run(index, outcome, Timestamp::from_second(end.as_second() - index as i64 * seconds_between).unwrap())
        })
        .collect()
}

fn run(index: usize, outcome: RunOutcome, started_at: Timestamp) -> Run {
    let is_stored = matches!(outcome, RunOutcome::Loaded | RunOutcome::FellBack);
    let rows = 1000 + (index as u64 * 37) % 5000;
    Run {
        source_id: format!("{index:064x}"),
        outcome,
        error_kind: (outcome == RunOutcome::Failed).then(|| "throttled".to_owned()),
        attempts: if outcome == RunOutcome::Failed { 3 } else { 1 },
        bucket: "bucket".to_owned(),
        key: format!("uploads/2026/orders-{index}.csv"),
        version_id: None,
        table: ["orders", "refunds", "events"][index % 3].to_owned(),
        size_bytes: rows * 90,
        rows_parsed: rows,
        rows_stored: if is_stored { rows } else { 0 },
        rows_rejected: u64::from(index.is_multiple_of(9)),
        load: LoadDetails::default(),
        worker: "trigger on host".to_owned(),
        tool_version: "0.1.0".to_owned(),
        first_started_at: None,
        started_at,
        ended_at: None,
        elapsed_ms: Some(200 + (index as u64 * 13) % 4000),
        cost_usd: Some(0.000_02),
        moved_to: None,
        reason: match outcome {
            RunOutcome::FellBack => Some("table_mismatch: the table has no column \"coupon\"".to_owned()),
            RunOutcome::Rejected => Some("record 7, line 8: the record has 3 fields instead of 4".to_owned()),
            RunOutcome::Failed => Some("S3 asks for fewer requests".to_owned()),
            RunOutcome::Loaded | RunOutcome::Duplicate | RunOutcome::Superseded => None,
        },
        table_changes: None,
    }
}

fn html(runs: &[Run]) -> String {
    let created_at = "2026-11-29T13:00:00Z".parse().unwrap();
    Page { runs, filter: vec!["since 7d".to_owned()], is_cut: false, lacks_history: false, created_at }.html()
}

/// Fails unless every element that is opened is closed in the same order.
fn assert_is_nested(html: &str) {
    const VOID: [&str; 3] = ["meta", "br", "path"];
    let mut open = Vec::new();
    for tag in html.split('<').skip(1).filter(|tag| !tag.starts_with('!')) {
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        if VOID.contains(&name.as_str()) {
            continue;
        }
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name), "in {tag}"),
            false => open.push(name),
        }
    }
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn page_has_tiles_charts_and_tables() {
    let html = html(&runs(100, 3600));
    assert_is_nested(&html);
    assert_eq!((html.matches("<figure>").count(), html.matches("<table>").count()), (4, 3));
    for text in [
        "Files and failed attempts per day",
        "Slowest files",
        "table_mismatch",
        "since 7d",
        "<b>80</b><span>files loaded",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<script"));
}

#[test]
fn loads_by_key_have_their_counts_and_all_loads_their_mode() {
    let mut runs = runs(6, 60);
    assert!(!html(&runs).contains("unchanged"));
    for run in runs.iter_mut().filter(|run| run.table == "orders") {
        run.rows_stored = 2000;
        let mode = Some("mirror".to_owned());
        run.load =
            LoadDetails { load_mode: mode, rows_updated: 500, rows_unchanged: 1200, rows_deleted: 7, rows_missing: 0 };
    }
    for run in runs.iter_mut().filter(|run| run.table != "orders") {
        run.load.load_mode = Some("append".to_owned());
    }
    let html = html(&runs);
    assert_is_nested(&html);
    // Two files of each table.
    let cells = |numbers: [&str; 4]| {
        let cell = |(label, number)| format!("<td class=\"number\" data-label=\"{label}\">{number}</td>");
        ["inserted", "updated", "unchanged", "deleted"].into_iter().zip(numbers).map(cell).collect::<String>()
    };
    assert!(html.contains(&cells(["600", "1,000", "2,400", "14"])), "{html}");
    assert!(html.contains(&cells(["", "", "", ""])), "{html}");
    let mode = |name| html.contains(&format!("<td data-label=\"mode\"><bdi>{name}</bdi></td>"));
    assert!(mode("mirror") && mode("append"), "{html}");
}

#[test]
fn texts_of_the_ledger_are_escaped() {
    let hostile = "</bdi><script>alert('x')</script>\"&\u{1b}[2J\u{202e}";
    let mut runs = runs(20, 60);
    for run in &mut runs {
        run.key = hostile.to_owned();
        run.table = hostile.to_owned();
        run.error_kind = Some(hostile.to_owned());
        run.reason = Some(hostile.to_owned());
    }
    let html = html(&runs);
    assert_is_nested(&html);
    assert!(!html.contains("<script") && !html.contains('\u{1b}') && !html.contains("alert('"), "not escaped");
    assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\\u{1b}[2J"));
}

#[test]
fn page_of_many_runs_stays_small() {
    let few = html(&runs(10, 600));
    let many = html(&runs(10_000, 600));
    let years = html(&runs(10_000, 86_400));
    assert!(few.contains("Rows per hour") && many.contains("Rows per day") && years.contains("Rows per 6 weeks"));
    for page in [&few, &many, &years] {
        assert_is_nested(page);
        assert!(page.len() < 200_000, "{} bytes", page.len());
    }
}

#[test]
fn every_run_is_counted_in_a_chart() {
    let runs = runs(1000, 100_000);
    let series = Series::of(&runs);
    let files: f64 = RunOutcome::ALL.iter().flat_map(|outcome| series.values(|bucket| bucket.files(*outcome))).sum();
    // Each of 50 failed runs has three attempts.
    assert!((files - 1100.0).abs() < 0.5, "{files}");
}

#[test]
fn page_without_runs_says_so() {
    let html = html(&[]);
    assert_is_nested(&html);
    assert!(html.contains("No run matches"));
}

#[test]
fn notes_tell_what_is_missing() {
    let runs = runs(5, 60);
    let created_at = "2026-11-29T13:00:00Z".parse().unwrap();
    let html = Page { runs: &runs, filter: Vec::new(), is_cut: true, lacks_history: true, created_at }.html();
    assert!(html.contains("older runs") && html.contains("no attempt history"));
}
