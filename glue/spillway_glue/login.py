"""The login to the database, and the JDBC URL that it is reached by."""

import json
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from spillway_glue.plan import table_parts
from spillway_glue.refusal import Refused


@dataclass(frozen=True)
class Login:
    """How to reach and open the database."""

    is_mysql: bool
    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def driver(self):
        """The class of the JDBC driver. MariaDB's also speaks to MySQL."""
        return "org.mariadb.jdbc.Driver" if self.is_mysql else "org.postgresql.Driver"

    def url(self, ca_file, **more):
        """Returns the JDBC URL. Without certificates the connection is not encrypted."""
        if self.is_mysql:
            # Spark quotes names correctly only with this scheme. Without `useAffectedRows`, a statement that changes nothing counts.
            scheme, options = "mysql", {"permitMysqlScheme": "true", "useAffectedRows": "true", "rewriteBatchedStatements": "true"}
            tls = {"useSsl": "true", "serverSslCert": ca_file} if ca_file else {"useSsl": "false"}
        else:
            # Without the option, the errors of executors would contain the values of a row.
            scheme, options = "postgresql", {"logServerErrorDetail": "false", "reWriteBatchedInserts": "true", "tcpKeepAlive": "true"}
            tls = {"sslmode": "verify-full", "sslrootcert": ca_file} if ca_file else {"sslmode": "disable"}
        return f"jdbc:{scheme}://{self.host}:{self.port}/{quote(self.database)}?{urlencode(options | tls | more, safe='/')}"

    def quoted(self, name):
        """Returns an identifier in quotes."""
        mark = "`" if self.is_mysql else '"'
        return mark + name.replace(mark, mark * 2) + mark

    def quoted_table(self, name):
        """Returns the quoted name of a table, after that of its schema if it has one."""
        schema, own = table_parts(name)
        return ".".join(self.quoted(part) for part in (schema, own) if part)


def read_login(secret_text, given):
    """Returns the login in a secret. `given` has values for the fields that the secret lacks; its engine takes precedence."""
    try:
        secret = json.loads(secret_text)
    except ValueError:
        raise Refused("the secret is not JSON") from None
    field = lambda name, option: secret.get(name) or given.get(option)  # noqa: E731
    engine, port = str(given.get("engine") or secret.get("engine") or ""), field("port", "port")
    is_mysql = not engine.removeprefix("aurora-").startswith("postgres") if engine else str(port) != "5432"
    login = {
        "host": field("host", "host"),
        "user": secret.get("username"),
        "password": secret.get("password"),
        "database": field("dbname", "database"),
    }
    if missing := [name for name, value in login.items() if not value]:
        raise Refused(f"the secret and the arguments lack: {', '.join(missing)}")
    return Login(is_mysql, port=int(port or (3306 if is_mysql else 5432)), **login)
