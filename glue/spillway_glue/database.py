"""The database: JDBC connections of the driver program, the description of the table, and the staging table.

An error of a server may contain a value of the file. So messages have its code only, except for errors about names and connections.
"""

import re
import secrets
from datetime import datetime, timezone

from py4j.protocol import Py4JJavaError

from spillway_glue.columns import TableColumn
from spillway_glue.plan import table_parts
from spillway_glue.refusal import Interrupted, Refused

UNIQUE_VIOLATION = ("23505", 1062)
# Lock waits, deadlocks, failover, a server that is full or starts.
BUSY = ("40001", "40P01", "55P03", 1205, 1213, 3572, 1290, 1792, 1836, 1053, 1927, 1040, 1203, 1226, "53300", "25006")
STAGING = re.compile(r"spillway_staging_([0-9a-f]{16})_[0-9a-f]{8}")

MYSQL_SESSION = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION /*M! max_statement_time = 0, */ sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', wait_timeout = 90, "
    "net_read_timeout = 90, net_write_timeout = 90, foreign_key_checks = 1, unique_checks = 1, sql_notes = 1, "
    "innodb_lock_wait_timeout = 3, lock_wait_timeout = 10",
)
POSTGRES_SESSION = (
    "SET TIME ZONE 'UTC'",
    "SET datestyle = 'ISO, YMD'",
    "SET standard_conforming_strings = on",
    "SET lock_timeout = '3s'",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = '90s'",
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)


class Session:
    """A JDBC connection of the driver program, without automatic COMMIT."""

    def __init__(self, jvm, login, ca_file):
        properties = jvm.java.util.Properties()
        properties.setProperty("user", login.user)
        properties.setProperty("password", login.password)
        loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
        more = {} if login.is_mysql else {"stringtype": "unspecified"}
        try:
            driver = loader.loadClass(login.driver).newInstance()
            self._connection = driver.connect(login.url(ca_file, connectTimeout="10000" if login.is_mysql else "10", **more), properties)
            self._connection.setAutoCommit(False)
        except Py4JJavaError as error:
            raise failure("cannot connect to the database", error) from None
        self.is_mysql, self.database = login.is_mysql, login.database
        for statement in MYSQL_SESSION if login.is_mysql else POSTGRES_SESSION:
            self.execute("cannot set up the session", statement)
        self.commit()

    def execute(self, context, sql, *params):
        """Runs a statement. Returns the number of changed rows."""
        return self._run(context, sql, params, lambda statement: 0 if statement.execute() else statement.getLargeUpdateCount())

    def query(self, context, sql, *params):
        """Returns the rows of a small result, as texts or None."""

        def read(statement):
            result, rows = statement.executeQuery(), []
            width = result.getMetaData().getColumnCount()
            while result.next():
                rows.append(tuple(result.getString(column) for column in range(1, width + 1)))
            return rows

        return self._run(context, sql, params, read)

    def _run(self, context, sql, params, read):
        try:
            statement = self._connection.prepareStatement(sql)
            try:
                for number, param in enumerate(params, 1):
                    if isinstance(param, int):
                        statement.setLong(number, param)
                    else:
                        statement.setString(number, param)
                return read(statement)
            finally:
                statement.close()
        except Py4JJavaError as error:
            raise failure(context, error) from None

    def commit(self):
        """Ends the transaction. After an error it is not known whether the transaction was committed."""
        self._connection.commit()

    def rollback(self):
        """Rolls back, if the server still responds."""
        try:
            self._connection.rollback()
        except Py4JJavaError:
            pass

    def close(self):
        try:
            self._connection.close()
        except Py4JJavaError:
            pass


def error_code(error):
    """Returns the codes of a server's error: SQLSTATE, and the number of MySQL and MariaDB."""
    cause = error.java_exception
    while cause is not None:
        try:
            return cause.getSQLState() or "", cause.getErrorCode()
        except Exception:  # noqa: BLE001 - not an SQLException
            cause = cause.getCause()
    return "", 0


def failure(context, error):
    """Returns the error of the job for an error of a driver."""
    state, number = error_code(error)
    text = f"{context}: SQLSTATE {state or 'none'}" + (f", error {number}" if number else "")
    # These are about connections, logins and names. All others may contain a value.
    if state[:2] in ("08", "28", "42") or state == "":
        text += f" ({str(error.java_exception.getMessage()).splitlines()[0]})"
    is_busy = state in BUSY or number in BUSY or state[:2] in ("08", "57", "58", "53") or state == ""
    failed = Interrupted(text) if is_busy else Refused(text)
    failed.is_unique_violation = state == UNIQUE_VIOLATION[0] or number == UNIQUE_VIOLATION[1]
    return failed


def table_columns(session, table):
    """Returns the columns of a table that rows can be appended to in a transaction."""
    schema, own = table_parts(table)
    if session.is_mysql:
        where = "TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ?"
        found = session.query("cannot look up the table", f"SELECT TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE {where}", schema, own)
        if found and found[0] != ("BASE TABLE", "InnoDB"):
            raise Refused(f"{table} is not a table of InnoDB")
        columns = session.query(
            "cannot read the columns",
            "SELECT COLUMN_NAME, DATA_TYPE, COALESCE(CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, DATETIME_PRECISION), NUMERIC_SCALE, "
            f"COLUMN_TYPE, EXTRA FROM information_schema.COLUMNS WHERE {where} ORDER BY ORDINAL_POSITION", schema, own)
        return [_mysql_column(*column) for column in columns]
    columns = session.query(
        "cannot read the columns",
        "SELECT a.attname::text, regexp_replace(format_type(a.atttypid, a.atttypmod), '[(][0-9,]+[)]', ''), a.atttypmod::text, "
        "c.relkind::text || c.relpersistence::text || c.relrowsecurity::text "
        "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped "
        "AND c.oid = to_regclass(COALESCE(quote_ident(?) || '.', '') || quote_ident(?)) ORDER BY a.attnum", schema, own)
    if columns and columns[0][3] not in ("rpfalse", "ppfalse"):
        raise Refused(f"{table} is not a permanent table without row-level security")
    return [_postgres_column(*column[:3]) for column in columns]


def _mysql_column(name, type_name, size, scale, column_type, extra):
    # Of `tinyint(1)`, the display width says that it is a boolean.
    size = 1 if column_type.startswith("tinyint(1)") else int(size) if size and type_name not in ("tinyint",) else None
    scale = int(scale) if type_name == "decimal" else None
    sized = ("decimal", "varchar", "char", "datetime", "timestamp", "time", "tinyint")
    is_unsigned, is_auto = "unsigned" in column_type, "auto_increment" in (extra or "")
    return TableColumn(name, type_name.lower(), size if type_name in sized else None, scale, is_unsigned, is_auto)


def _postgres_column(name, type_name, modifier):
    modifier = int(modifier)
    if modifier < 0:
        return TableColumn(name, type_name)
    if type_name == "numeric":
        return TableColumn(name, type_name, ((modifier - 4) >> 16) & 0xFFFF, (modifier - 4) & 0xFFFF)
    return TableColumn(name, type_name, modifier - 4 if type_name == "character varying" else modifier)


def new_staging_name(source_id):
    """Returns a name that no other attempt uses. The sweep knows it by its form."""
    return f"spillway_staging_{source_id[:16]}_{secrets.token_hex(4)}"


def create_staging(session, login, name, staged):
    """Creates the staging table, after dropping those that earlier attempts at this source have left."""
    for old in _staging_tables(session):
        if STAGING.fullmatch(old)[1] == STAGING.fullmatch(name)[1]:
            drop_staging(session, login, old)
    text, binary = ("LONGTEXT", "LONGBLOB") if login.is_mysql else ("text", "bytea")
    columns = ", ".join(f"c{number} {binary if column.is_binary else text} NULL" for number, column in enumerate(staged))
    if login.is_mysql:
        # Some servers require a primary key.
        columns += ", spillway_row BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY"
    options = "ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if login.is_mysql else ""
    # The counts show if a crash of the server has emptied an unlogged table.
    kind = "TABLE" if login.is_mysql else "UNLOGGED TABLE"
    session.execute("cannot create the staging table", f"CREATE {kind} {login.quoted(name)} ({columns}) {options}")
    if not login.is_mysql:
        # PostgreSQL stores no time of creation, so the comment shows the age of a table that is left.
        created = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        session.execute("cannot create the staging table", f"COMMENT ON TABLE {login.quoted(name)} IS 'created at {created}'")
    session.commit()


def drop_staging(session, login, name):
    session.execute("cannot drop the staging table", f"DROP TABLE IF EXISTS {login.quoted(name)}")
    session.commit()


def _staging_tables(session):
    sql = (
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'spillway!_staging!_%' ESCAPE '!'"
        if session.is_mysql
        else "SELECT relname::text FROM pg_class WHERE relname LIKE 'spillway!_staging!_%' ESCAPE '!' AND relkind = 'r' AND pg_table_is_visible(oid)"
    )
    return [name for (name,) in session.query("cannot list the staging tables", sql) if STAGING.fullmatch(name)]
