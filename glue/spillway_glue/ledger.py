"""The claim of a source in the ledger, and its row after the load: the statements of `crates/core/src/ledger`.

The claim, the rows and the state `loaded` are committed in one transaction. The state `loading` is never committed.
"""

from dataclasses import dataclass

from spillway_glue.refusal import Interrupted, Refused

NEEDS_NO_LOAD = ("loaded", "duplicate", "superseded")
VERSION = "glue"

INSERT = (
    "INSERT INTO {ledger} (source_id, bucket, object_key, version_id, etag, size_bytes, body_sha256, target_table, state, attempt, "
    "worker, tool_version, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'loading', 1, ?, ?, ?) {or_keep}"
)
CLAIM_AGAIN = (
    "UPDATE {ledger} SET state = 'loading', attempt = attempt + 1, content_id = NULL, body_sha256 = ?, target_table = ?, worker = ?, "
    "tool_version = ?, started_at = ?, committed_at = NULL, rows_parsed = 0, rows_stored = 0, rows_rejected = 0, rows_updated = NULL, "
    "rows_unchanged = NULL, reason = NULL WHERE source_id = ?"
)
CLAIM_CONTENT = "UPDATE {ledger} SET content_id = ? WHERE source_id = ?"
ORIGINAL = "SELECT source_id, rows_parsed, bucket, object_key FROM {ledger} WHERE content_id = ? AND state = 'loaded'"
DUPLICATE = "UPDATE {ledger} SET state = 'duplicate', rows_parsed = ?, committed_at = {now}, reason = ? WHERE source_id = ?"
LOADED = (
    "UPDATE {ledger} SET state = 'loaded', load_mode = ?, rows_parsed = ?, rows_stored = ?, rows_rejected = ?, rows_updated = ?, "
    "rows_unchanged = ?, committed_at = {now} WHERE source_id = ? AND state = 'loading'"
)
STATE = "SELECT state, rows_stored FROM {ledger} WHERE source_id = ?"


@dataclass(frozen=True)
class Claim:
    """What a claim writes into the ledger."""

    version: object
    table: str
    worker: str
    # In UTC, as `2026-11-30 20:00:00.000000`.
    started_at: str
    body_sha256: str
    # The hash of bucket, key and body; None if the same content may be loaded again.
    content_id: str | None


class Ledger:
    """The ledger in this table. Most methods use the open transaction of the session."""

    def __init__(self, login, table):
        self._is_mysql, self._table = login.is_mysql, login.quoted(table)

    def _sql(self, template):
        or_keep = "ON DUPLICATE KEY UPDATE source_id = source_id" if self._is_mysql else "ON CONFLICT (source_id) DO NOTHING"
        now = "UTC_TIMESTAMP(6)" if self._is_mysql else "clock_timestamp()"
        return template.replace("{ledger}", self._table).replace("{or_keep}", or_keep).replace("{now}", now)

    def state(self, session, source_id):
        """Returns the committed state and the number of stored rows, or None. Ends the transaction."""
        try:
            found = session.query("cannot read the ledger (Spillway creates it with its first load)", self._sql(STATE), source_id)
        finally:
            session.rollback()
        return (found[0][0], int(found[0][1])) if found else None

    def claim(self, session, claim):
        """Locks the source's row for this attempt. Returns None, or the state of a source that needs no load."""
        version, context = claim.version, "cannot claim the source"
        started_at = claim.started_at if self._is_mysql else claim.started_at + "+00"
        session.execute(
            context, self._sql(INSERT), version.source_id, version.bucket, version.key, version.version_id, version.etag,
            version.size_bytes, claim.body_sha256, claim.table, claim.worker[:255], VERSION, started_at,
        )
        found = session.query(context, self._sql(STATE) + " FOR UPDATE", version.source_id)
        if not found:
            raise Interrupted("the source's ledger row was deleted while it was claimed")
        state = found[0][0]
        if state in NEEDS_NO_LOAD:
            return state
        # A committed row never has the state `loading`, so this transaction has inserted it.
        if state != "loading":
            session.execute(
                context, self._sql(CLAIM_AGAIN), claim.body_sha256, claim.table, claim.worker[:255], VERSION, started_at, version.source_id
            )
        return self._claim_content(session, claim) if claim.content_id else None

    def _claim_content(self, session, claim):
        context, source_id = "cannot claim the content", claim.version.source_id
        session.execute(context, "SAVEPOINT content")
        try:
            session.execute(context, self._sql(CLAIM_CONTENT), claim.content_id, source_id)
            session.execute(context, "RELEASE SAVEPOINT content")
            return None
        except Refused as error:
            if not error.is_unique_violation:
                raise
        session.execute(context, "ROLLBACK TO SAVEPOINT content")
        original = session.query(context, self._sql(ORIGINAL), claim.content_id)
        if not original:
            raise Interrupted("another worker is loading the same content")
        original_id, rows, bucket, key = original[0]
        reason = f"the same content was loaded from s3://{bucket}/{key} (id {original_id[:16]})"
        session.execute(context, self._sql(DUPLICATE), int(rows), reason, source_id)
        session.commit()
        return "duplicate"

    def record_loaded(self, session, source_id, rows):
        """Writes `loaded` and the counts into the claimed row. The next statement must be COMMIT."""
        changed = session.execute("cannot write the ledger", self._sql(LOADED), "append", rows, rows, 0, 0, 0, source_id)
        if changed != 1:
            raise Interrupted("the claimed ledger row is missing")
