"""One version of an object in S3: its identity, as Spillway computes it, and the checksum of its bytes."""

import hashlib
import time
from dataclasses import dataclass

from spillway_glue.refusal import Refused

RANGE_BYTES = 64 * 1024 * 1024
TRIES = 5


@dataclass(frozen=True)
class ObjectVersion:
    """A version of an object, as S3 has confirmed it."""

    bucket: str
    key: str
    # None in a bucket without versions.
    version_id: str | None
    # With its quotes.
    etag: str
    size_bytes: int

    @property
    def source_id(self):
        """The identity in the ledger, in leases and in the fallback."""
        parts = [self.bucket, self.key, self.etag, str(self.size_bytes)]
        return hash_parts(parts if self.version_id is None else [*parts, self.version_id])

    def __str__(self):
        return f"s3://{self.bucket}/{self.key}"


def hash_parts(parts):
    """SHA-256 in hex over texts, each after its length in eight bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def head(s3, bucket, key):
    """Returns the current version of an object."""
    try:
        found = s3.head_object(Bucket=bucket, Key=key)
    except s3.exceptions.ClientError as error:
        raise Refused(f"s3://{bucket}/{key} cannot be read: {error.response['Error']['Code']}") from None
    return ObjectVersion(bucket, key, found.get("VersionId"), found["ETag"], found["ContentLength"])


def check_unchanged(s3, version):
    """Fails if the object is not this version any more. Spark reads by key, so it may have read another version."""
    if head(s3, version.bucket, version.key) != version:
        raise Refused(f"{version} was overwritten while it was read; start the job for the new version")


def sha256(s3, version):
    """Returns SHA-256 in hex of the stored bytes of this version. A broken connection costs one range, not the whole read."""
    digest = hashlib.sha256()
    for start in range(0, version.size_bytes, RANGE_BYTES):
        digest.update(_range(s3, version, start, min(RANGE_BYTES, version.size_bytes - start)))
    return digest.hexdigest()


def _range(s3, version, start, length):
    version_id = {} if version.version_id is None else {"VersionId": version.version_id}
    for attempt in range(TRIES):
        try:
            which = {"Bucket": version.bucket, "Key": version.key, "IfMatch": version.etag, **version_id}
            data = s3.get_object(Range=f"bytes={start}-{start + length - 1}", **which)["Body"].read()
            if len(data) == length:
                return data
        except s3.exceptions.ClientError:
            # botocore has retried what may be retried.
            raise
        except Exception:  # noqa: BLE001 - the connection broke while the body was read
            time.sleep(2**attempt)
    raise ConnectionError


def first_bytes(s3, version, count):
    """Returns the first bytes of an object."""
    if version.size_bytes == 0:
        return b""
    return s3.get_object(Bucket=version.bucket, Key=version.key, Range=f"bytes=0-{count - 1}")["Body"].read()
