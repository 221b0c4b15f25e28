"""Tests of the Glue job on real servers: the very script by spark-submit, compared cell by cell with Spillway's own task.

    make test-glue
    python tests/glue/run.py --ministack PATH --target FOLDER [--rows COUNT] [--engine mariadb|postgres] [--only TEXT]

Prints one line for each case. Exits with 1 if one failed.
"""

import argparse
import json
import re
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import data
import servers
from bench import BUCKET, LEASE_SECONDS, ROOT, Bench, expect, expect_loaded, expect_refused

sys.path.insert(0, str(ROOT / "glue"))

from spillway_glue.object_version import hash_parts  # noqa: E402

POINTS = ["created", "staged", "before_fence", "before_commit", "after_commit"]


def equal_cells(bench, path, key, count, **more):
    """Loads a file with the task and with the job, and compares both tables. Returns the figures."""
    name = re.sub(r"\W", "_", key)
    expected, table = f"t_{name}", f"g_{name}"
    bench.upload(path, f"task/{key}")
    bench.upload(path, f"glue/{key}")
    seconds = bench.task(expected, f"task/{key}")
    plan = bench.plan(table, f"glue/{key}")
    result = bench.glue(path, f"glue/{key}", **more)
    expect_loaded(bench, result, table, count)
    expect(bench.rows(expected) == count, "the task has loaded another number of rows")
    columns = [column["name"] for column in plan["columns"]]
    for each in (expected, table):
        bench.server.sql(f"CREATE INDEX {each}_id ON {each} (id)")
    different = bench.server.count_different(expected, table, columns)
    joined = int(bench.server.sql(f"SELECT COUNT(*) FROM {expected} a JOIN {table} b ON a.id = b.id"))
    expect(joined == count and different == 0, f"{different} of {joined} rows differ")
    expect(bench.server.types(expected) == bench.server.types(table), "the tables have other types")
    by_task, by_glue = bench.ledger(f"task/{key}"), bench.ledger(f"glue/{key}")
    separator = "\t" if bench.server.engine == "mariadb" else "|"
    expect(by_task.split(separator)[:5] == by_glue.split(separator)[:5], f"the ledger rows differ: {by_task} {by_glue}")
    return f"{count * len(columns)} cells equal; job {result[0]['seconds']} s ({figures_of(result)}), task {seconds:.1f} s (debug build)"


def figures_of(result):
    return ", ".join(f"{name} {seconds} s" for name, seconds in result[0]["seconds_of"].items())


def many_rows(bench):
    path = bench.folder / "many.csv"
    data.write_csv(path, bench.options.rows)
    figures = equal_cells(bench, path, "many.csv", bench.options.rows)
    again = bench.glue(path, "glue/many.csv")
    expect_loaded(bench, again, "g_many_csv", bench.options.rows, "already loaded")
    # A request finds the file loaded, and moves it.
    bench.task("g_many_csv", "glue/many.csv")
    expect(bench.rows("g_many_csv") == bench.options.rows, "the task has loaded the file again")
    expect(bench.keys("glue/many.csv") == [] and len(bench.keys("processed/")) >= 1, "the object was not moved")
    # The same bytes under the same key are a duplicate, for the job and for the task.
    bench.upload(path, "glue/many.csv")
    bench.s3.copy_object(Bucket=BUCKET, Key="glue/many.csv", CopySource={"Bucket": BUCKET, "Key": "glue/many.csv"}, MetadataDirective="REPLACE", Metadata={"again": "1"})
    once_more = bench.glue(path, "glue/many.csv")
    expect(once_more[0].get("outcome") in ("already loaded", "duplicate"), once_more[0])
    expect(bench.rows("g_many_csv") == bench.options.rows, "a duplicate was loaded")
    return f"{figures}; second run {again[0]['seconds']} s, {again[0]['outcome']}"


def other_formats(bench):
    figures = []
    for name, write, count in [("lines.jsonl", data.write_json, 20_000), ("rows.parquet", data.write_parquet, 20_000)]:
        path = bench.folder / name
        write(path, count)
        figures.append(f"{name}: " + equal_cells(bench, path, name, count))
    path = bench.folder / "crlf.csv"
    data.write_csv(path, 5_000, "\r\n")
    figures.append("crlf: " + equal_cells(bench, path, "crlf.csv", 5_000))
    return "; ".join(figures)


def line_breaks(bench):
    path = bench.folder / "breaks.csv"
    data.write_csv_with_line_breaks(path, 3_000)
    bench.upload(path, "glue/refused/breaks.csv")
    bench.plan("g_refused_breaks", "glue/refused/breaks.csv")
    result = bench.glue(path, "glue/refused/breaks.csv")
    expect(result[1] != 0 and bench.rows("g_refused_breaks") == 0, result[0])
    return f"without the argument: {result[0]['reason'][:60]}…; with it: " + equal_cells(bench, path, "breaks.csv", 3_000, line_breaks="yes")


def killed(bench):
    figures = []
    for point in POINTS:
        key, table, path = f"glue/killed/{point}.csv", f"g_killed_{point}", bench.folder / f"{point}.csv"
        data.write_csv(path, 20_000)
        bench.upload(path, key)
        bench.plan(table, key)
        _, code, output = bench.glue(path, key, fault=point)
        expect(code in (-9, 137), f"{point}: the fault did not fire: {code} {output[-2000:]}")
        servers.wait_until("the server has noticed the end", lambda: bench.rows(table) in (0, 20_000))
        expected = 20_000 if point == "after_commit" else 0
        expect(bench.rows(table) == expected, f"{point}: {bench.rows(table)} rows after the kill")
        # While the lease is live, another run must not start.
        busy = bench.glue(path, key) if point == "staged" else None
        time.sleep(LEASE_SECONDS + 2)
        again = bench.glue(path, key)
        if expected:
            expect(again[1] == 0 and bench.rows(table) == 20_000 and again[0]["outcome"] == "already loaded", again[0])
            left = bench.server.staging_tables()
            expect(len(left) == 1, f"staging tables: {left}")
            bench.server.sql(f"DROP TABLE {left[0]}")
            expect(bench.leases_in_use() == [], "a lease is left")
        elif busy and busy[0].get("outcome") == "loaded":
            # The lease had expired before Spark had started.
            expect_loaded(bench, again, table, 20_000, "already loaded")
        else:
            expect_loaded(bench, again, table, 20_000)
        figures.append(f"{point}: {again[0]['outcome']}")
    return "; ".join(figures)


def lost_commits(bench):
    """COMMIT gets no response: once it took effect, once it did not."""
    path = bench.folder / "commits.csv"
    data.write_csv(path, 2_000)
    for point in ("lost_response", "lost_request"):
        bench.upload(path, f"glue/commits/{point}.csv")
        bench.plan(f"g_{point}", f"glue/commits/{point}.csv")
    expect_loaded(bench, bench.glue(path, "glue/commits/lost_response.csv", fault="lost_response"), "g_lost_response", 2_000)
    result = bench.glue(path, "glue/commits/lost_request.csv", fault="lost_request")
    expect_refused(bench, result, "g_lost_request", "did not respond to COMMIT, and the ledger says that it was not committed")
    expect_loaded(bench, bench.glue(path, "glue/commits/lost_request.csv"), "g_lost_request", 2_000)
    return "the ledger resolved both"


def repeated_tasks(bench):
    path = bench.folder / "tasks.csv"
    data.write_csv(path, 20_000)
    for key in ("glue/tasks/failed.csv", "glue/tasks/repeated.csv"):
        bench.upload(path, key)
    bench.plan("g_tasks_failed", "glue/tasks/failed.csv")
    result = bench.glue(path, "glue/tasks/failed.csv", fault="task")
    expect_loaded(bench, result, "g_tasks_failed", 20_000)
    expect("the test fails the first attempt" in result[2], "no task has failed")
    bench.plan("g_tasks_repeated", "glue/tasks/repeated.csv")
    result = bench.glue(path, "glue/tasks/repeated.csv", fault="repeated")
    expect_refused(bench, result, "g_tasks_repeated", "20001 rows are staged")
    return "each task failed once: 20000 rows once; a task committed twice: zero rows"


def bad_values(bench):
    """A file that changes after its plan was made, so that a value does not fit. The sizes are equal."""
    figures = []
    good = "id,amount,day,note\n1,1.50,2024-01-01,abcdefghij\n2,2.50,2024-01-02,abcdefghij\n"
    cases = {
        "integer": good.replace("\n2,", "\nX,"),
        "decimal": good.replace("2.50", "SECR"),
        "fraction": good.replace("2.50", ".501"),
        "date": good.replace("2024-01-02", "2024-02-30"),
        "fields": good.replace("1,1.50,2024-01-01,abcdefghij", "1,1.50,2024-01-01,SECRET,hij"),
        "records": good[:37].ljust(len(good) - 1, "x") + "\n",
    }
    for name, text in cases.items():
        expect(len(text) == len(good), name)
        key, table, path = f"glue/bad/{name}.csv", f"g_bad_{name}", bench.folder / f"bad-{name}.csv"
        path.write_text(good)
        bench.upload(path, key)
        bench.plan(table, key)
        path.write_text(text)
        bench.upload(path, key)
        result = bench.glue(path, key)
        expect_refused(bench, result, table, {"fields": "number of fields", "records": "1 rows are staged"}.get(name, "has a value that does not fit"), "SECR")
        figures.append(f"{name}: {result[0]['reason'][:70]}")
    # The server refuses a row: its message contains the value.
    key, table, path = "glue/bad/key.csv", "g_bad_key", bench.folder / "bad-key.csv"
    path.write_text("id,note\n1,SECRETKEY\n2,SECRETKEY\n")
    bench.upload(path, key)
    bench.plan(table, key)
    column = "note(20)" if bench.server.engine == "mariadb" else "note"
    bench.server.sql(f"CREATE UNIQUE INDEX u ON {table} ({column})")
    result = bench.glue(path, key)
    expect_refused(bench, result, table, "the database refused the rows", "SECRETKEY")
    figures.append(f"unique key: {result[0]['reason'][:70]}")
    return "; ".join(figures)


def key_that_no_event_loads(bench):
    """The way of `docs/tiers.md`: a key with another ending, which neither an event nor a prefix loads; then a request moves it."""
    path, key = bench.folder / "orders.csv", "uploads/orders.csv.spark"
    data.write_csv(path, 1_000)
    bench.upload(path, key)
    bench.plan("g_orders", key)
    servers.run(Path(bench.options.target) / "debug/spillway-task", env=bench.settings("g_orders") | {"CSV_PREFIX": "uploads/"})
    expect(bench.rows("g_orders") == 0 and bench.keys(key) == [key], "the prefix has loaded the file")
    expect_loaded(bench, bench.glue(path, key), "g_orders", 1_000)
    expect(bench.keys(key) == [key], "the job has moved the object")
    bench.task("g_orders", key)
    moved = bench.keys("processed/orders.csv")
    expect(bench.rows("g_orders") == 1_000 and bench.keys(key) == [] and len(moved) == 1, f"{bench.keys('')}")
    return f"moved to {moved[0]}"


def table_in_a_schema(bench):
    path, key = bench.folder / "schema.csv", "glue/schema.csv"
    data.write_csv(path, 1_000)
    bench.upload(path, key)
    grant = "GRANT ALL ON s.* TO glue@'127.0.0.1'" if bench.server.engine == "mariadb" else "ALTER SCHEMA s OWNER TO glue"
    bench.server.sql(f"CREATE SCHEMA s; {grant}")
    bench.plan("s.orders", key)
    expect_loaded(bench, bench.glue(path, key), "s.orders", 1_000)
    return "s.orders"


def other_workers(bench):
    """The lease, the fallback and the table decide that the job must not load a file."""
    path, key, table = bench.folder / "others.csv", "glue/others.csv", "g_others"
    data.write_csv(path, 1_000)
    bench.upload(path, key)
    bench.plan(table, key)
    version = bench.s3.head_object(Bucket=BUCKET, Key=key)
    source_id = hash_parts([BUCKET, key, version["ETag"], str(version["ContentLength"])])
    document = {"worker": "another worker", "token": "t", "acquired_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00.123456789Z",
                "commit_may_be_sent": False, "fallback_may_be_written": False, "unended_acquisitions": 1, "object": None}
    figures = []

    def refused(lease, reason):
        bench.s3.put_object(Bucket=BUCKET, Key=f"lease/{source_id}", Body=json.dumps(lease).encode())
        report, code, output = bench.glue(path, key)
        expect(code != 0 and reason in report.get("reason", ""), f"{report} {output[-2000:]}")
        expect(bench.rows(table) == 0 and bench.leases_in_use() == [f"lease/{source_id}"], "the lease of the other worker was changed")
        figures.append(report["reason"][:50])

    refused(document, "another worker holds")
    expired = document | {"expires_at": "2026-01-01T00:00:00Z"}
    refused(expired | {"fallback_may_be_written": True}, "may have been writing the fallback")
    refused(expired | {"unended_acquisitions": 3}, "3 workers in a row died")
    bench.s3.delete_object(Bucket=BUCKET, Key=f"lease/{source_id}")
    bench.s3.put_object(Bucket=BUCKET, Key=f"fallback/_manifests/{source_id}.json", Body=b"{}")
    expect_refused(bench, bench.glue(path, key), table, "has a manifest in the fallback")
    bench.s3.delete_object(Bucket=BUCKET, Key=f"fallback/_manifests/{source_id}.json")
    expect_refused(bench, bench.glue(path, key, source_id="0" * 64), table, "is another version")
    expect_refused(bench, bench.glue(path, key, ca=str(other_authority(bench))), table, "cannot connect to the database")
    # A worker that died after it had sent COMMIT: the ledger says that nothing was committed.
    bench.s3.put_object(Bucket=BUCKET, Key=f"lease/{source_id}", Body=json.dumps(expired | {"commit_may_be_sent": True}).encode())
    expect_loaded(bench, bench.glue(path, key), table, 1_000)
    return "; ".join(figures)


def other_authority(bench):
    folder = bench.folder / f"authority-{bench.server.engine}"
    folder.mkdir()
    return servers.certificates(folder)


def deployed_template(cloud):
    """Deploys `templates/glue.yaml` to the local AWS."""
    values = {"BucketName": BUCKET, "DatabaseSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:db", "SubnetId": "subnet-1",
              "AvailabilityZone": "us-east-1a", "SecurityGroupId": "sg-1", "LeasePrefix": "locks/"}
    stacks, glue = cloud.client("cloudformation"), cloud.client("glue")
    stacks.create_stack(StackName="glue", TemplateBody=(ROOT / "templates/glue.yaml").read_text(), Capabilities=["CAPABILITY_IAM"],
                        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()])
    found = lambda: stacks.describe_stacks(StackName="glue")["Stacks"][0]  # noqa: E731
    servers.wait_until("the stack is created", lambda: found()["StackStatus"] == "CREATE_COMPLETE")
    name = next(output["OutputValue"] for output in found()["Outputs"] if output["OutputKey"] == "JobName")
    job = glue.get_job(JobName=name)["Job"]
    expect(job["GlueVersion"] == "5.1" and job["Command"]["ScriptLocation"] == f"s3://{BUCKET}/glue/load.py", job)
    given = job["DefaultArguments"]
    expect((given["--lease_prefix"], given["--ca"]) == ("locks/", f"s3://{BUCKET}/glue/rds-ca-bundle.pem"), given)
    return f"job {name}"


CASES = [many_rows, key_that_no_event_loads, table_in_a_schema, other_workers, other_formats, line_breaks, killed, lost_commits, repeated_tasks, bad_values]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ministack", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--engine")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    # So that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="spillway-glue-"))
    folder.chmod(0o755)
    with zipfile.ZipFile(folder / "spillway_glue.zip", "w") as archive:
        for path in (ROOT / "glue/spillway_glue").glob("*.py"):
            archive.write(path, f"spillway_glue/{path.name}")
    started, failed = [], 0
    try:
        started.append(cloud := servers.Cloud(folder, options.ministack))
        cloud.client("s3").create_bucket(Bucket=BUCKET)
        if options.only in "deployed_template":
            print(f"ok      {deployed_template.__name__}: {deployed_template(cloud)}", flush=True)
        for kind in (servers.MariaDb, servers.Postgres):
            if options.engine not in (None, kind.engine) or not any(options.only in case.__name__ for case in CASES):
                continue
            started.append(server := kind(folder))
            bench = Bench(folder, cloud, server, options)
            # The first load of Spillway creates the ledger.
            (folder / "first.csv").write_text("id\n1\n")
            bench.upload(folder / "first.csv", "task/first.csv")
            bench.task("first", "task/first.csv")
            for case in CASES:
                if options.only not in case.__name__:
                    continue
                begun = time.monotonic()
                try:
                    figures = case(bench)
                    print(f"ok      {server.engine:9} {case.__name__:15} {time.monotonic() - begun:6.1f} s  {figures}", flush=True)
                except (AssertionError, RuntimeError, KeyError) as error:
                    failed += 1
                    print(f"FAILED  {server.engine:9} {case.__name__:15} {type(error).__name__}: {error}", flush=True)
            server.process.stop()
            started.remove(server)
            for key in bench.keys(""):
                bench.s3.delete_object(Bucket=BUCKET, Key=key)
    finally:
        for server in reversed(started):
            server.process.stop()
        servers.remove(folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
