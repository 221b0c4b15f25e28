"""The programs that the tests of the Glue job run, and what they expect of a load."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import servers

ROOT = Path(__file__).resolve().parents[2]
JARS = ["/usr/share/java/postgresql.jar", "/usr/share/java/mariadb-java-client.jar"]
BUCKET, LEASE_SECONDS = "glue-bucket", 10
# For smaller files, the start of the virtual machine is most of the time.
SMALL_BYTES = 16 * 1024 * 1024


class Bench:
    """A database, the local AWS, and the programs that load into it."""

    def __init__(self, folder, cloud, server, options):
        self.folder, self.cloud, self.server, self.options = folder, cloud, server, options
        self.s3 = cloud.client("s3")
        self.secret = f"glue-{server.engine}"
        cloud.client("secretsmanager").create_secret(Name=self.secret, SecretString=servers.secret_text(server))

    def upload(self, path, key):
        self.s3.upload_file(str(path), BUCKET, key)

    def settings(self, table):
        return self.cloud.environment() | {
            "PATH": os.environ["PATH"], "RDS_SECRET_NAME": self.secret, "RDS_CA_FILE": str(self.server.ca), "RDS_TABLE": table, "S3_BUCKET": BUCKET,
            "RDS_RETRY_SECONDS": "5", "LEASE_SECONDS": str(LEASE_SECONDS), "LOG_LEVEL": "warn",
        }

    def task(self, table, key):
        """Loads an object with Spillway's task. Returns the seconds."""
        started = time.monotonic()
        servers.run(Path(self.options.target) / "debug/spillway-task", env=self.settings(table) | {"CSV_KEY": key})
        return time.monotonic() - started

    def plan(self, table, key):
        """Makes the plan of an object, and creates the table as it says. Returns the plan."""
        text = servers.run(Path(self.options.target) / "debug/spillway", "plan", f"s3://{BUCKET}/{key}", "--json", env=self.settings(table))
        found = json.loads(text)
        self.s3.put_object(Bucket=BUCKET, Key=f"plans/{self.server.engine}/{key}.json", Body=text.encode())
        for statement in found["table"]["sql"]:
            grant = "" if self.server.engine == "mariadb" else "SET ROLE glue; "
            self.server.sql(grant + statement)
        return found

    def glue(self, path, key, fault=None, **more):
        """Runs the job. Returns its report, its exit code and its whole output."""
        archive, script = self.folder / "spillway_glue.zip", ROOT / "glue/load.py"
        files = f"{archive},{script}" if fault else str(archive)
        arguments = {
            "bucket": BUCKET, "key": key, "plan": f"s3://{BUCKET}/plans/{self.server.engine}/{key}.json", "secret": self.secret, "path": str(path),
            "ca": str(self.server.ca), "lease_seconds": str(LEASE_SECONDS), "connections": "2", **more,
        }
        command = [
            "spark-submit", "--master", "local[2,4]", "--driver-class-path", ":".join(JARS), "--driver-memory", "2g", "--py-files", files,
            "--conf", "spark.ui.enabled=false", "--conf", f"spark.local.dir={self.folder}/spark", "--conf", f"spark.sql.warehouse.dir={self.folder}/warehouse",
            "--conf", "spark.sql.files.maxPartitionBytes=33554432",
            str(Path(__file__).with_name("faulty.py") if fault else script), *[text for name, value in arguments.items() for text in (f"--{name}", value)],
        ]
        if os.path.getsize(path) < SMALL_BYTES:
            command[1:1] = ["--driver-java-options", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"]
        environment = os.environ | self.cloud.environment() | ({"SPILLWAY_GLUE_FAULT": fault} if fault else {})
        environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        found = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder, check=False, timeout=900)
        lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
        return (json.loads(lines[-1]) if lines else {}), found.returncode, found.stdout + found.stderr

    def rows(self, table):
        return int(self.server.sql(f"SELECT COUNT(*) FROM {table}"))

    def ledger(self, key):
        return self.server.sql(f"SELECT state, rows_parsed, rows_stored, load_mode, body_sha256, content_id FROM spillway_ledger WHERE object_key = '{key}'")

    def leases_in_use(self):
        """Returns the keys of leases, except of those that have ended and only say that the rows may be committed."""
        found = []
        for key in self.keys("lease/"):
            lease = json.loads(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
            has_ended = datetime.fromisoformat(lease["expires_at"]) < datetime.now(timezone.utc)
            if not (has_ended and lease["commit_may_be_sent"]):
                found.append(key)
        return found

    def keys(self, prefix):
        return [found["Key"] for found in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def expect_loaded(bench, result, table, count, outcome="loaded"):
    report, code, output = result
    expect(code == 0 and report.get("outcome") == outcome, f"{report} {code} {output[-3000:]}")
    expect(bench.rows(table) == count, f"{bench.rows(table)} rows, not {count}")
    expect(bench.leases_in_use() == [], f"leases are left: {bench.leases_in_use()}")
    expect(bench.server.staging_tables() == [], f"staging tables are left: {bench.server.staging_tables()}")


def expect_refused(bench, result, table, reason, secret="no such text"):
    report, code, output = result
    expect(code != 0 and reason in report.get("reason", ""), f"{report} {code} {output[-3000:]}")
    expect(secret not in output, "the output contains a value of the file")
    expect(bench.rows(table) == 0, f"{bench.rows(table)} rows")
    expect(bench.leases_in_use() == [] and bench.server.staging_tables() == [], "a lease or a staging table is left")
