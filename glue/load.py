"""A Glue (Spark) job that loads one file into MySQL, MariaDB or PostgreSQL, exactly once, with Spillway's ledger and lease.

It is for files that outgrow one Fargate task. All executors write the rows into a staging table. Then the driver program claims the
source, copies the rows and writes the ledger row in one transaction. See `docs/tiers.md`.

The job moves no object and writes no fallback. After it, a request for the key moves the object (`{"key": "…"}`).
"""

import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone

import boto3
from awsglue.utils import getResolvedOptions
from botocore.exceptions import BotoCoreError, ClientError
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spillway_glue import columns, database, login, object_version, plan, rows
from spillway_glue.lease import Lease
from spillway_glue.ledger import NEEDS_NO_LOAD, Claim, Ledger
from spillway_glue.refusal import InDoubt, Interrupted, Refused

REQUIRED = ["bucket", "key", "plan", "secret"]
DEFAULTS = {
    # Where Spark reads the bytes; the object itself unless a test sets it.
    "path": "",
    "ledger_table": "spillway_ledger",
    "lease_prefix": "lease/",
    "lease_seconds": "60",
    "fallback_prefix": "fallback/",
    # `content` loads the same bytes under the same key once, `version` loads each version.
    "dedupe": "content",
    # `yes` for CSV with line breaks within quotes: then one executor reads the whole file.
    "line_breaks": "no",
    # The most connections at the same time.
    "connections": "8",
    "tls": "verify",
    # The certificates to verify the server with: an S3 URL or a path.
    "ca": "",
    "engine": "",
    "host": "",
    "port": "",
    "database": "",
    # The identity that the caller expects.
    "source_id": "",
    "worker": "",
}
ACCEPTED = {
    "dedupe": "content|version",
    "line_breaks": "yes|no",
    "tls": "verify|off",
    "connections": "[1-9][0-9]*",
    "lease_seconds": "[1-9][0-9]*",
}
# As long as a Multi-AZ failover takes.
COMMIT_SECONDS = 150


def arguments(argv):
    """Returns the arguments of the job. Fails for a value that is not accepted."""
    given = [name for name in DEFAULTS if any(text == f"--{name}" or text.startswith(f"--{name}=") for text in argv)]
    resolved = getResolvedOptions(argv, REQUIRED + given)
    options = DEFAULTS | {name: value for name, value in resolved.items() if name in DEFAULTS or name in REQUIRED}
    for name, accepted in ACCEPTED.items():
        if not re.fullmatch(accepted, options[name]):
            raise Refused(f"--{name} accepts {accepted}")
    options["worker"] = options["worker"] or f"glue on {socket.gethostname()}, process {os.getpid()}"
    return options


class Load:
    """One attempt at one object version."""

    def __init__(self, spark, options):
        self.spark, self.options = spark, options
        self.s3 = boto3.client("s3")
        self.version = object_version.head(self.s3, options["bucket"], options["key"])
        self.plan = plan.read(read_text(self.s3, options["plan"]))
        secret = boto3.client("secretsmanager").get_secret_value(SecretId=options["secret"])["SecretString"]
        self.login = login.read_login(secret, options)
        self.ca_file = certificates(self.s3, options) if options["tls"] == "verify" else None
        self.ledger = Ledger(self.login, options["ledger_table"])
        self.started_at = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
        # Whether a COMMIT of this attempt or of an earlier one may have taken effect.
        self.is_commit_in_doubt = False
        # Seconds of the two parts of a load, for the report.
        self.seconds = {}
        self.check_version()

    def check_version(self):
        """Fails if the plan or the caller means another version of the object."""
        expected = self.options["source_id"]
        if expected and expected != self.version.source_id:
            raise Refused(f"{self.version} is another version than {expected[:16]}")
        if self.version.size_bytes != self.plan.size_bytes:
            raise Refused(f"{self.version} has {self.version.size_bytes} bytes, and the plan is for {self.plan.size_bytes}; make the plan again")
        mark = object_version.first_bytes(self.s3, self.version, 3) if self.plan.csv and not self.plan.csv.has_header else b""
        if mark == b"\xef\xbb\xbf":
            raise Refused("the file has no header and begins with a byte order mark; load it with the task")

    def run(self):
        """Loads the file, or finds that it needs no load. Returns the outcome."""
        lease = Lease(self.s3, self.version, self.options["lease_prefix"], self.options["worker"], int(self.options["lease_seconds"]))
        self.is_commit_in_doubt = lease.is_commit_in_doubt
        try:
            outcome = self.load(lease)
        except BaseException:
            end(lambda: lease.abandon(self.is_commit_in_doubt))
            raise
        # The rows are committed, and the object is still in place. Until it is moved, the lease tells the next worker to ask the ledger,
        # so that it writes no row to the fallback if it cannot.
        end(lambda: lease.abandon(True))
        return outcome

    def load(self, lease):
        session = self.connect()
        try:
            if outcome := self.earlier_outcome(session):
                return outcome
            self.check_no_fallback()
            staged = self.staged_columns(session)
            staging = database.new_staging_name(self.version.source_id)
            database.create_staging(session, self.login, staging, staged)
        finally:
            session.close()
        try:
            started = time.monotonic()
            body = self.stage(staging, staged)
            self.seconds["staging"] = round(time.monotonic() - started, 1)
            started = time.monotonic()
            outcome = self.commit_rows(lease, staging, staged, body)
            self.seconds["transaction"] = round(time.monotonic() - started, 1)
            return outcome
        finally:
            self.clean_up(staging)

    def connect(self):
        return database.Session(self.spark._jvm, self.login, self.ca_file)

    def earlier_outcome(self, session):
        found = self.ledger.state(session, self.version.source_id)
        return f"already {found[0]}" if found and found[0] in NEEDS_NO_LOAD else None

    def check_no_fallback(self):
        """Fails if the rows are in the fallback. A replay loads them."""
        key = f"{self.options['fallback_prefix']}_manifests/{self.version.source_id}.json"
        found = self.s3.list_objects_v2(Bucket=self.version.bucket, Prefix=key)
        if found.get("KeyCount", 0):
            raise Refused(f"{self.version} has a manifest in the fallback ({key}); replay it, or run a sweep")

    def staged_columns(self, session):
        """Matches the columns of the file with those of the table."""
        table = {column.name: column for column in database.table_columns(session, self.plan.table)}
        session.rollback()
        if not table:
            raise Refused(f"the table {self.plan.table} does not exist; create it with the statement in the plan (table.sql)")
        staged = []
        for number, column in enumerate(self.plan.columns):
            if column.table_column not in table:
                raise Refused(f'the table has no column "{column.table_column}"; add it first')
            target = table[column.table_column]
            staged.append(columns.staged(self.login.is_mysql, self.plan.format == "csv", column, target, f"c{number}"))
        return staged

    def stage(self, staging, staged):
        """Writes all rows into the staging table. Returns SHA-256 of the bytes, or an empty text if it is not needed."""
        body, error = [], []
        thread = threading.Thread(target=self.compute_checksum, args=(body, error), daemon=True)
        if self.options["dedupe"] == "content":
            thread.start()
        try:
            self.write_rows(staging, staged)
        except (Py4JJavaError, PySparkException) as failed:
            raise spark_failure(failed) from None
        if thread.ident is not None:
            thread.join()
        if error:
            raise Interrupted(f"the bytes of {self.version} could not be read for their checksum: {error[0]}")
        object_version.check_unchanged(self.s3, self.version)
        return body[0] if body else ""

    def write_rows(self, staging, staged):
        """Reads the file and writes its rows with all executors."""
        path = self.options["path"] or f"s3://{self.version.bucket}/{self.version.key}"
        read = rows.read(self.spark, self.plan, path, self.options["line_breaks"] == "yes")
        frame = self.checked(read.select(*[F.expr(column.expression).alias(f"c{number}") for number, column in enumerate(staged)]))
        is_local = self.spark.sparkContext.master.startswith("local")
        # On the executors, Spark has put the file into the working folder.
        ca_file = self.ca_file and (self.ca_file if is_local else os.path.basename(self.ca_file))
        frame.write.format("jdbc").mode("append").options(
            url=self.login.url(ca_file), driver=self.login.driver, user=self.login.user, password=self.login.password,
            dbtable=self.login.quoted(staging), batchsize=5000, numPartitions=int(self.options["connections"]), isolationLevel="READ_COMMITTED",
        ).save()

    def checked(self, frame):
        """Returns the rows to stage."""
        return frame

    def compute_checksum(self, body, error):
        try:
            body.append(object_version.sha256(self.s3, self.version))
        except Exception as failed:  # noqa: BLE001 - the thread's caller raises it
            error.append(type(failed).__name__)

    def commit_rows(self, lease, staging, staged, body):
        """Claims the source, copies the staged rows and writes the ledger row, in one transaction."""
        session = self.connect()
        try:
            if outcome := self.copy_rows(session, staging, staged, body):
                return outcome
            lease.fence_before_commit()
            self.is_commit_in_doubt = True
            try:
                session.commit()
            except Py4JJavaError:
                return self.resolve_commit()
            self.is_commit_in_doubt = False
            return "loaded"
        finally:
            session.rollback()
            session.close()

    def copy_rows(self, session, staging, staged, body):
        """Runs every step before COMMIT. Returns the state of a source that needs no load."""
        counted = int(session.query("cannot count the staged rows", f"SELECT COUNT(*) FROM {self.login.quoted(staging)}")[0][0])
        session.rollback()
        if counted != self.plan.rows:
            more = "a CSV file with line breaks within quotes needs --line_breaks yes" if self.plan.csv else "the file may have changed"
            raise Refused(f"{counted} rows are staged, and the plan has {self.plan.rows}: {more}; if Spark repeated a task, start the job again")
        content_id = object_version.hash_parts([self.version.bucket, self.version.key, body]) if body else None
        claim = Claim(self.version, self.plan.table, self.options["worker"], self.started_at, body, content_id)
        state = self.ledger.claim(session, claim)
        # The claim shows that no earlier transaction is open.
        self.is_commit_in_doubt = False
        if state:
            return state if state == "duplicate" else f"already {state}"
        names = ", ".join(self.login.quoted(column.name) for column in staged)
        values = ", ".join(column.select.format(f"c{number}") for number, column in enumerate(staged))
        sql = f"INSERT INTO {self.login.quoted_table(self.plan.table)} ({names}) SELECT {values} FROM {self.login.quoted(staging)}"
        stored = session.execute("the database refused the rows", sql)
        warnings = session.query("cannot read the warnings", "SELECT @@warning_count")[0][0] if self.login.is_mysql else "0"
        if stored != self.plan.rows or warnings != "0":
            raise Refused(f"the server stored {stored} of {self.plan.rows} rows, with {warnings} warnings; zero rows are kept")
        self.ledger.record_loaded(session, self.version.source_id, stored)
        return None

    def resolve_commit(self):
        """Finds out from the ledger whether a COMMIT without a response took effect.

        A claim does so, because it waits for the transaction if the server still has it open.
        """
        claim = Claim(self.version, self.plan.table, self.options["worker"], self.started_at, "", None)
        limit = time.monotonic() + COMMIT_SECONDS
        while time.monotonic() < limit:
            try:
                session = self.connect()
                try:
                    state = self.ledger.claim(session, claim)
                finally:
                    session.rollback()
                    session.close()
            except (Interrupted, Refused):
                time.sleep(2)
                continue
            self.is_commit_in_doubt = False
            if state == "loaded":
                return "loaded"
            raise Interrupted("the server did not respond to COMMIT, and the ledger says that it was not committed")
        raise InDoubt("the server did not respond to COMMIT, and the ledger cannot be read; start the job again, or run a sweep")

    def clean_up(self, staging):
        """Drops the staging table. If this fails, the next attempt or the next sweep drops it."""
        try:
            session = self.connect()
            database.drop_staging(session, self.login, staging)
            session.close()
        except (Interrupted, Refused) as error:
            print(json.dumps({"warning": f"the staging table {staging} stays: {error}"}), file=sys.stderr)


def end(action):
    """Ends the lease. A failure does not change the outcome, because the lease expires by itself."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever S3 has returned
        print(json.dumps({"warning": f"the lease was not ended, and expires by itself: {type(error).__name__}"}), file=sys.stderr)


def spark_failure(error):
    """Returns the error of the job for an error of Spark, without values of the file."""
    is_java = isinstance(error, Py4JJavaError)
    text = str(error.java_exception) if is_java else str(error)
    if found := re.search(re.escape(columns.MARK) + r'((?:[^\n"]|"[^"\n]*")*)', text):
        return Refused(found[1].strip().rstrip("'"))
    state, number = database.error_code(error) if is_java else ("", 0)
    name = re.search(r"\b([A-Z_]{6,}(?:\.[A-Z_]+)*)\]", text)
    return Interrupted(f"Spark could not stage the rows: {name[1] if name else 'see the log'} (SQLSTATE {state or 'none'}, error {number})")


def read_text(s3, place):
    """Returns the text of an object (`s3://bucket/key`) or a local file."""
    if place.startswith("s3://"):
        bucket, _, key = place.removeprefix("s3://").partition("/")
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    with open(place, encoding="utf-8") as file:
        return file.read()


def certificates(s3, options):
    """Returns a local file with the certificates. The executors get it too."""
    if not options["ca"]:
        raise Refused("--ca is missing: the certificates to verify the server with (crates/core/certs/rds-ca-bundle.pem)")
    path = os.path.join(tempfile.mkdtemp(), "spillway-ca.pem")
    with open(path, "w", encoding="utf-8") as file:
        file.write(read_text(s3, options["ca"]))
    SparkSession.builder.getOrCreate().sparkContext.addFile(path)
    return path


def main(argv, attempt=Load):
    """Runs the job, and prints one line of JSON. Exits with 1 if the file has no outcome."""
    started = time.monotonic()
    report = {}
    try:
        options = arguments(argv)
        load = attempt(SparkSession.builder.appName("spillway").getOrCreate(), options)
        report = {"object": str(load.version), "source_id": load.version.source_id, "table": load.plan.table, "rows": load.plan.rows}
        report["outcome"] = load.run()
        report["seconds_of"] = load.seconds
    except (Refused, Interrupted, InDoubt) as error:
        report |= {"outcome": type(error).__name__.lower(), "reason": str(error)}
    except (ClientError, BotoCoreError) as error:
        report |= {"outcome": "interrupted", "reason": f"a request to AWS failed: {error}"}
    report["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(report), flush=True)
    if "reason" in report:
        # Glue shows this text as the error of the run. Spillway starts no other run for a refused file.
        sys.exit(f"spillway {report['outcome']}: {report['reason']}")


if __name__ == "__main__":
    main(sys.argv)
