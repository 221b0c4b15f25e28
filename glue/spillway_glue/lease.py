"""The lease of a source: the same object in S3, with the same fields, that Spillway's workers use.

While the job holds it, no other worker loads the file, writes it to the fallback, or drops the staging table. Every change is
conditional on the ETag of the lease object.
"""

import json
import secrets
import threading
from datetime import datetime, timedelta, timezone

from spillway_glue.object_version import hash_parts
from spillway_glue.refusal import Interrupted, Refused

# Largest assumed difference between two workers' clocks.
CLOCK_MARGIN = timedelta(seconds=1)
MAX_DEATHS = 3
TRIES = 5
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404", "409", "412")


class Lease:
    """A lease that this job holds. A thread renews it."""

    def __init__(self, s3, version, prefix, worker, seconds):
        self._bucket, self._key = version.bucket, f"{prefix}{version.source_id}"
        self._objects = _LeaseObjects(s3, self._bucket, self._key)
        self._ttl = timedelta(seconds=seconds)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._is_lost = False
        self._document, self._etag = self._acquire(version, worker)
        threading.Thread(target=self._keep_renewing, daemon=True).start()

    def _acquire(self, version, worker):
        now = _now()
        document = {
            "worker": worker,
            "token": hash_parts([worker, now.isoformat(), secrets.token_hex(16)]),
            "acquired_at": _text(now),
            "expires_at": _text(now + self._ttl),
            "commit_may_be_sent": False,
            "fallback_may_be_written": False,
            "unended_acquisitions": 1,
            "object": {"bucket": version.bucket, "key": version.key, "version_id": version.version_id},
        }
        for _ in range(TRIES):
            if etag := self._objects.create(document):
                return document, etag
            if (found := self._objects.read()) is None:
                continue
            previous, etag = found
            if previous["token"] == document["token"]:
                return document, etag
            if _now() <= _time(previous["expires_at"]) + CLOCK_MARGIN:
                raise Interrupted(f"worker {previous['worker']} holds {self._key} until {previous['expires_at']}")
            taken = document | _inherited(previous, self._key)
            if etag := self._objects.overwrite(etag, taken):
                return taken, etag
        raise Interrupted(f"other workers changed {self._key} during each of {TRIES} attempts")

    @property
    def is_commit_in_doubt(self):
        """Whether an earlier worker, or this one, may have sent a COMMIT."""
        return self._document["commit_may_be_sent"]

    def fence_before_commit(self):
        """Records that a COMMIT may be sent, and verifies that this job still holds the lease."""
        self._renew(commit_may_be_sent=True)

    def release(self):
        """Deletes the lease after an attempt whose outcome is known."""
        self._ended.set()
        with self._lock:
            self._objects.delete(self._etag)

    def abandon(self, is_in_doubt):
        """Ends the lease after a failed attempt. A doubt, and the number of workers that died, stay in it."""
        self._ended.set()
        if not is_in_doubt and self._document["unended_acquisitions"] <= 1:
            return self.release()
        with self._lock:
            count = self._document["unended_acquisitions"] - 1
            ended = {"expires_at": _text(_now() - CLOCK_MARGIN), "unended_acquisitions": count, "commit_may_be_sent": is_in_doubt}
            self._objects.overwrite(self._etag, self._document | ended)

    def _keep_renewing(self):
        while not self._ended.wait(self._ttl.total_seconds() / 3):
            try:
                self._renew()
            except Interrupted:
                return
            except Exception:  # noqa: BLE001 - S3 failed; the next try is before the lease expires.
                continue

    def _renew(self, **change):
        with self._lock:
            if self._is_lost or _time(self._document["expires_at"]) <= _now():
                raise Interrupted(f"the lease {self._key} expired, or another worker has taken it over")
            document = self._document | change | {"expires_at": _text(_now() + self._ttl)}
            etag = self._objects.overwrite(self._etag, document)
            if etag is None:
                # An earlier write whose response was lost has changed the ETag too.
                found = self._objects.read()
                is_own = found is not None and found[0]["token"] == document["token"]
                etag = self._objects.overwrite(found[1], document) if is_own else None
            if etag is None:
                self._is_lost = True
                raise Interrupted(f"another worker has taken over {self._key}")
            self._document, self._etag = document, etag


def _inherited(previous, key):
    """The fields that a worker takes over from one that died."""
    deaths = previous.get("unended_acquisitions", 0)
    if previous.get("fallback_may_be_written"):
        raise Refused(f"an earlier worker may have been writing the fallback ({key}); run a sweep, then start the job again")
    if deaths >= MAX_DEATHS:
        raise Refused(f"{deaths} workers in a row died with this file; the next sweep moves it to the failed prefix")
    return {"unended_acquisitions": deaths + 1, "commit_may_be_sent": previous["commit_may_be_sent"]}


class _LeaseObjects:
    """Conditional requests. The boto3 of Glue does not know their parameters, so they are sent as headers."""

    def __init__(self, s3, bucket, key):
        self._s3, self._at, self._headers = s3, {"Bucket": bucket, "Key": key}, threading.local()
        for operation in ("PutObject", "DeleteObject"):
            s3.meta.events.register(f"before-call.s3.{operation}", self._add_headers)

    def _add_headers(self, params, **_):
        params["headers"].update(getattr(self._headers, "of_request", {}))

    def create(self, document):
        return self._put(document, {"If-None-Match": "*"})

    def overwrite(self, etag, document):
        return self._put(document, {"If-Match": etag})

    def read(self):
        try:
            found = self._s3.get_object(**self._at)
        except self._s3.exceptions.NoSuchKey:
            return None
        return json.loads(found["Body"].read()), found["ETag"]

    def delete(self, etag):
        self._send(lambda: self._s3.delete_object(**self._at), {"If-Match": etag})

    def _put(self, document, headers):
        body = json.dumps(document).encode()
        put = lambda: self._s3.put_object(**self._at, Body=body, ContentType="application/json")  # noqa: E731
        found = self._send(put, headers)
        return found and found["ETag"]

    def _send(self, request, headers):
        """Returns the response, or None if the condition does not hold."""
        self._headers.of_request = headers
        try:
            return request()
        except self._s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in CHANGED:
                return None
            raise
        finally:
            self._headers.of_request = {}


def _now():
    return datetime.now(timezone.utc)


def _text(time):
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(text):
    return datetime.fromisoformat(text)
