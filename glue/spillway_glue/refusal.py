"""The errors of the job. A message names the object, the record or the column, and never contains a value of the file."""


class Refused(Exception):
    """The file or the settings do not allow a load. No row is stored, and a new run has the same result."""


class Interrupted(Exception):
    """A server, a lock or another worker prevented the load. No row is stored, and a new run may succeed."""


class InDoubt(Exception):
    """COMMIT got no response, and the ledger cannot be read. The next run, or a sweep, reads the ledger."""
