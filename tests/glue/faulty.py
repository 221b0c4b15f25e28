"""Runs `glue/load.py` with one fault, for tests. `SPILLWAY_GLUE_FAULT` names it.

The functions of the job run unchanged between the faults.
"""

import os
import signal
import sys

import load
from pyspark.sql.functions import col, udf
from pyspark.taskcontext import TaskContext

FAULT = os.environ["SPILLWAY_GLUE_FAULT"]


def die_at(point):
    if point == FAULT:
        os.kill(os.getpid(), signal.SIGKILL)


def fail_first_attempt(value):
    """Fails the first attempt of each task after some rows."""
    fail_first_attempt.rows += 1
    if TaskContext.get().attemptNumber() == 0 and fail_first_attempt.rows > 100:
        raise RuntimeError("the test fails the first attempt")
    return value


fail_first_attempt.rows = 0


class Faulty(load.Load):
    """An attempt that dies at a point, or whose Spark tasks fail once."""

    def checked(self, frame):
        if FAULT == "task":
            frame = frame.withColumn("c0", udf(fail_first_attempt)(col("c0")))
        if FAULT == "repeated":
            # As if a task had been run again after its COMMIT.
            frame = frame.union(frame.limit(1))
        return frame

    def stage(self, staging, staged):
        die_at("created")
        body = super().stage(staging, staged)
        die_at("staged")
        return body

    def copy_rows(self, session, staging, staged, body):
        outcome = super().copy_rows(session, staging, staged, body)
        die_at("before_fence")
        return outcome

    def clean_up(self, staging):
        die_at("after_commit")
        super().clean_up(staging)

    def connect(self):
        session = super().connect()
        commit = session.commit

        def faulty_commit():
            if not self.is_commit_in_doubt:
                return commit()
            die_at("before_commit")
            if FAULT == "lost_response":
                commit()
            if FAULT in ("lost_response", "lost_request"):
                # The connection ends, so the driver reports an error.
                session._connection.close()
                session._connection.createStatement().execute("SELECT 1")
            return commit()

        session.commit = faulty_commit
        return session


if __name__ == "__main__":
    load.main(sys.argv, Faulty)
