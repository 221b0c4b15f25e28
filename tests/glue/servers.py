"""Real servers on loopback for the tests of the Glue job: MariaDB, PostgreSQL and MiniStack. Each is stopped by its process id."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

PASSWORD = "glue-test-password"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(*command, **more):
    """Runs a command that must succeed. Returns its output."""
    found = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if found.returncode:
        raise RuntimeError(f"{command[0]} failed ({found.returncode}): {found.stdout[-2000:]} {found.stderr[-2000:]}")
    return found.stdout


def wait_until(what, check, seconds=60):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.2)


class Process:
    """A server process of this test."""

    def __init__(self, folder, command, environment=None, stop=signal.SIGTERM):
        self._stop = stop
        with open(folder / "log", "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def stop(self):
        self._process.send_signal(self._stop)
        self._process.wait(timeout=60)


def certificates(folder):
    """Creates an authority and a certificate for loopback. Returns the path of the authority's certificate."""
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run(*new, "-x509", "-days", "2", "-subj", "/CN=glue tests", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    run(*new, "-subj", "/CN=127.0.0.1", "-keyout", folder / "server.key", "-out", folder / "server.csr")
    (folder / "server.ext").write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\n")
    sign = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", folder / "server.ext"]
    run("openssl", "x509", "-req", "-in", folder / "server.csr", *sign, "-out", folder / "server.pem")
    return folder / "ca.pem"


class MariaDb:
    """A MariaDB with TLS, a database and a user."""

    engine = "mariadb"

    def __init__(self, folder):
        self.folder, self.port = folder / "mariadb", free_port()
        self.folder.mkdir()
        self.ca = certificates(self.folder)
        data = self.folder / "data"
        run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db")
        self.process = Process(self.folder, [
            "/usr/sbin/mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve", f"--datadir={data}",
            f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid", f"--port={self.port}", "--local-infile=1",
            "--innodb-buffer-pool-size=512M", f"--ssl-ca={self.ca}", f"--ssl-cert={self.folder}/server.pem", f"--ssl-key={self.folder}/server.key",
        ])
        self._client = ["mariadb", "--no-defaults", f"--socket={self.folder}/socket", "--user=root", "--batch", "--skip-column-names"]
        wait_until("MariaDB accepts connections", lambda: subprocess.run([*self._client, "-e", "SELECT 1"], capture_output=True, check=False).returncode == 0)
        self.sql(f"CREATE DATABASE d; CREATE USER glue@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL; GRANT ALL ON d.* TO glue@'127.0.0.1'", None)

    def sql(self, statement, database="d"):
        return run(*self._client, *([database] if database else []), input=statement).rstrip("\n")

    def count_different(self, one, other, columns):
        """Counts rows of two tables with the same `id` that differ in a byte of any cell."""
        equal = " AND ".join(f"CAST(a.`{name}` AS BINARY) <=> CAST(b.`{name}` AS BINARY)" for name in columns)
        return int(self.sql(f"SELECT COUNT(*) FROM `{one}` a JOIN `{other}` b ON a.id = b.id WHERE NOT ({equal})"))

    def types(self, table):
        return self.sql(f"SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION")

    def staging_tables(self):
        return self.sql("SHOW TABLES LIKE 'spillway_staging_%'").split()


class Postgres:
    """A PostgreSQL with TLS, a database and a user."""

    engine = "postgres"

    def __init__(self, folder):
        self.folder, self.port = folder / "postgres", free_port()
        self.folder.mkdir()
        self.ca = certificates(self.folder)
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if user:
            account = pwd.getpwnam("postgres")
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        data = self.folder / "data"
        run(*user, binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", cwd=self.folder)
        (data / "pg_hba.conf").write_text("host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", "ssl=on", f"ssl_cert_file={self.folder}/server.pem",
                    f"ssl_key_file={self.folder}/server.key", "fsync=off", "timezone=Asia/Kolkata"]
        # `runuser` passes no signal on, so the command is replaced by the server.
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if user else []
        self.process = Process(self.folder, [*command, str(binaries / "postgres"), "-D", str(data), *[text for setting in settings for text in ("-c", setting)]],
                               stop=signal.SIGINT)
        self._client = ["psql", "--no-psqlrc", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        wait_until("PostgreSQL accepts connections", lambda: subprocess.run([*self._client, "-c", "SELECT 1", "postgres"], capture_output=True, check=False).returncode == 0)
        self.sql(f"CREATE ROLE glue LOGIN PASSWORD '{PASSWORD}'", "postgres")
        self.sql("CREATE DATABASE d OWNER glue", "postgres")

    def sql(self, statement, database="d"):
        return run(*self._client, database, input=statement).rstrip("\n")

    def count_different(self, one, other, columns):
        equal = " AND ".join(f'a."{name}"::text IS NOT DISTINCT FROM b."{name}"::text' for name in columns)
        return int(self.sql(f"SET timezone = 'UTC'; SELECT COUNT(*) FROM {one} a JOIN {other} b ON a.id = b.id WHERE NOT ({equal})"))

    def types(self, table):
        return self.sql(f"SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum")

    def staging_tables(self):
        return self.sql("SELECT relname FROM pg_class WHERE relname LIKE 'spillway_staging_%'").split()


class Cloud:
    """MiniStack: S3 and Secrets Manager."""

    def __init__(self, folder, ministack):
        self.folder, self.port = folder / "cloud", free_port()
        (self.folder / "tmp").mkdir(parents=True)
        environment = os.environ | {
            "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port), "IOT_MTLS_ENABLED": "0", "HOME": str(self.folder),
            "S3_DATA_DIR": str(self.folder / "s3"), "TMPDIR": str(self.folder / "tmp"),
        }
        self.process = Process(self.folder, [ministack], environment)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        wait_until("MiniStack responds", self._is_ready)

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def environment(self):
        """The variables that lead the AWS clients here."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": "123456789012", "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}

    def client(self, name):
        import boto3

        return boto3.client(name, endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id="123456789012", aws_secret_access_key="test")


def secret_text(server):
    return json.dumps({"username": "glue", "password": PASSWORD, "host": "127.0.0.1", "port": server.port, "dbname": "d", "engine": server.engine})


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
