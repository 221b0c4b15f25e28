//! The ledger's SQL statements. [`super::SqlLedger`] replaces the parts that differ between databases.
//!
//! Every statement names its columns, so a ledger may have more columns than this version uses, if they are nullable or
//! have a default.

/// `{mode}` is replaced by [`MODE`], or by [`NO_MODE`] for a ledger that may lack the column.
pub(super) const ENTRY: &str = "SELECT state, rows_parsed, rows_stored, moved_to, bucket, object_key, \
     {micros:committed_at}, LEFT(reason, 1000), {mode} FROM {ledger} WHERE source_id = ?";
pub(super) const MODE: &str = "load_mode";
pub(super) const NO_MODE: &str = "''";
/// Appended to [`ENTRY`] to lock the row.
pub(super) const LOCKED: &str = " FOR UPDATE";
/// Appended to [`ENTRY`] to lock the row, or to fail if it is locked.
pub(super) const LOCKED_NOWAIT: &str = " FOR UPDATE NOWAIT";
pub(super) const ORIGINAL: &str = "SELECT source_id, rows_parsed, bucket, object_key, {micros:committed_at} \
     FROM {ledger} WHERE content_id = ? AND state = 'loaded'";
pub(super) const CURRENT: &str =
    "SELECT source_id, object_key, {micros:source_modified_at}, bucket FROM {ledger} WHERE current_of = ?";
/// Appended to [`CURRENT`] to lock the row.
pub(super) const CURRENT_LOCKED: &str = " FOR UPDATE";

/// At most 20 rows: the response of a function is limited to 6 MB, and a reason may have 8,000 characters.
pub(super) const HISTORY: &str = "SELECT source_id, state, rows_parsed, rows_stored, rows_rejected, attempt, \
     {micros:started_at}, {micros:committed_at}, moved_to, reason, {listed} FROM {ledger} \
     WHERE bucket = ? AND object_key = ? ORDER BY started_at DESC LIMIT 20";

pub(super) const INSERT: &str = "INSERT INTO {ledger} (source_id, bucket, object_key, version_id, etag, size_bytes, \
     body_sha256, target_table, state, attempt, worker, tool_version, started_at) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'loading', 1, ?, ?, ?) {or_keep}";
pub(super) const INSERT_LOOK_UP: &str = "INSERT INTO {ledger} (source_id, bucket, object_key, etag, size_bytes, \
     body_sha256, target_table, state, worker, tool_version, started_at) \
     VALUES (?, '', '', '', 0, '', '', 'loading', '', '', {now}) {or_keep}";
pub(super) const CLAIM_AGAIN: &str = "UPDATE {ledger} SET state = 'loading', attempt = attempt + 1, content_id = NULL, \
     body_sha256 = ?, target_table = ?, worker = ?, tool_version = ?, started_at = ?, committed_at = NULL, \
     rows_parsed = 0, rows_stored = 0, rows_rejected = 0, rows_updated = NULL, rows_unchanged = NULL, reason = NULL \
     WHERE source_id = ?";
pub(super) const CLAIM_CONTENT: &str = "UPDATE {ledger} SET content_id = ? WHERE source_id = ?";
pub(super) const CLAIM_BODY: &str = "UPDATE {ledger} SET body_sha256 = ?, content_id = ? WHERE source_id = ?";
pub(super) const RELEASE_TABLE: &str = "UPDATE {ledger} SET current_of = NULL WHERE source_id = ?";
pub(super) const CLAIM_TABLE: &str = "UPDATE {ledger} SET current_of = ?, source_modified_at = ? WHERE source_id = ?";
pub(super) const SUPERSEDED: &str = "UPDATE {ledger} SET state = 'superseded', content_id = NULL, \
     committed_at = {now}, reason = ? WHERE source_id = ?";
pub(super) const DUPLICATE: &str = "UPDATE {ledger} SET state = 'duplicate', rows_parsed = ?, committed_at = {now}, \
     reason = ? WHERE source_id = ?";
/// `{more}` sets the columns that only some loads need, and that a ledger of an earlier version may lack. Every load has added
/// `load_mode` by then.
pub(super) const LOADED: &str = "UPDATE {ledger} SET state = 'loaded', load_mode = ?, rows_parsed = ?, \
     rows_stored = ?, rows_rejected = ?, rows_updated = ?, rows_unchanged = ?, {more}committed_at = {now} \
     WHERE source_id = ? AND state = 'loading'";
pub(super) const MORE_LAKE_KEY: &str = "lake_key = ?, ";
pub(super) const MORE_ROWS_DELETED: &str = "rows_deleted = ?, ";
pub(super) const MORE_ROWS_MISSING: &str = "rows_missing = ?, ";
/// The changes that a row lists so far.
pub(super) const CHANGES_OF: &str = "SELECT table_changes FROM {ledger} WHERE source_id = ?";
pub(super) const CHANGES: &str = "UPDATE {ledger} SET table_changes = ? WHERE source_id = ?";
/// In a list, if the ledger has the column. One more character than is shown, so that a longer text can be marked.
pub(super) const LISTED_CHANGES: &str = "LEFT(table_changes, 1001)";
pub(super) const OUTCOME: &str = "UPDATE {ledger} SET state = ?, content_id = NULL, rows_parsed = ?, rows_stored = ?, \
     rows_rejected = ?, reason = ?, committed_at = {now} WHERE source_id = ?";
/// The caller appends the IN lists of keys and ETags.
pub(super) const LOADED_VERSIONS: &str = "SELECT source_id, object_key, version_id, etag, size_bytes FROM {ledger} \
     WHERE bucket = ? AND state IN ('loaded', 'duplicate', 'superseded')";

pub(super) const COST: &str =
    "UPDATE {ledger} SET cost_usd = COALESCE(CAST(? AS DECIMAL(12,6)), cost_usd) WHERE source_id = ?";
pub(super) const MOVED: &str = "UPDATE {ledger} SET moved_at = {now}, moved_to = ?, \
     cost_usd = COALESCE(CAST(? AS DECIMAL(12,6)), cost_usd) WHERE source_id = ?";

/// Adds an attempt to the row of earlier ones that ended in the same way.
pub(super) const ATTEMPT_AGAIN: &str = "UPDATE {attempts} SET attempts = attempts + 1, worker = ?, tool_version = ?, \
     started_at = ?, ended_at = ?, rows_parsed = ?, rows_stored = ?, rows_rejected = ?, reason = ? WHERE attempt_id = ?";
pub(super) const ATTEMPT_INSERT: &str = "INSERT INTO {attempts} (attempt_id, source_id, bucket, object_key, version_id, \
     size_bytes, target_table, outcome, error_kind, first_started_at, started_at, ended_at, worker, tool_version, \
     rows_parsed, rows_stored, rows_rejected, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The runs that the ledger shows. Conditions, order and limit follow. A reason is cut, because a page has many of them.
pub(super) const LEDGER_RUNS: &str = "SELECT source_id, state, bucket, object_key, version_id, target_table, \
     size_bytes, rows_parsed, rows_stored, rows_rejected, worker, tool_version, {micros:started_at}, \
     {micros:committed_at}, moved_to, LEFT(reason, 1000), CONCAT(cost_usd, ''), {listed} FROM {ledger} \
     WHERE state <> 'loading'";
/// The runs of the history. An attempt whose outcome is also in the ledger is not listed.
pub(super) const ATTEMPT_RUNS: &str = "SELECT source_id, outcome, error_kind, attempts, bucket, object_key, version_id, \
     target_table, size_bytes, rows_parsed, rows_stored, rows_rejected, worker, tool_version, {micros:started_at}, \
     {micros:ended_at}, {micros:first_started_at}, LEFT(reason, 1000) FROM {attempts} \
     WHERE NOT EXISTS (SELECT 1 FROM {ledger} AS entry WHERE entry.source_id = {attempts}.source_id \
     AND entry.started_at = {attempts}.started_at AND entry.state = {attempts}.outcome)";

/// The watermarks of a bucket.
pub(super) const SYNCS: &str = "SELECT target_table, {micros:watermark}, {micros:started_at}, {micros:ended_at}, \
     files_listed, files_remaining, worker FROM {syncs} WHERE bucket = ? ORDER BY target_table";
pub(super) const SYNC_AGAIN: &str = "UPDATE {syncs} SET started_at = ?, ended_at = ?, files_listed = ?, \
     files_remaining = ?, worker = ?, tool_version = ? WHERE sync_id = ?";
pub(super) const SYNC_INSERT: &str = "INSERT INTO {syncs} (started_at, ended_at, files_listed, files_remaining, worker, \
     tool_version, sync_id, bucket, target_table) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
/// A watermark never moves back, also when two syncs run at once.
pub(super) const SYNC_WATERMARK: &str =
    "UPDATE {syncs} SET watermark = ? WHERE sync_id = ? AND (watermark IS NULL OR watermark < ?)";
