"""One bucket of S3, or of what speaks its protocol: the one module that knows boto3.

Theory of operation
- An object is put only where there is none (`If-None-Match: *`), so putting it again after a time-out is harmless:
  `False` says that one is there. Whether it is the same is for the caller to look at. One that takes the place of
  another names the one that it replaces (`If-Match`), so a late request replaces nothing newer.
- Every request is tried once by boto3 and again by our own `Retry`: conflicts (409), throttling (429, 503), other 5xx,
  connections that break, and time-outs. What will not pass (credentials, a missing bucket) is said at once.
- A large body goes in parts. They are nothing that a reader could see before the last request names them all; what a
  killed process leaves is removed by a lifecycle rule of the bucket (`AbortIncompleteMultipartUpload`).
- Credentials, region and endpoint are found by boto3 by its own convention (`AWS_ENDPOINT_URL_S3`, profiles, roles).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from kvs.tiers.failures import ExtraMissing, TierRefused
from kvs.tiers.retry import Passing, Retry

PART_BYTES = 8 << 20
"""Of an upload or a download; S3's least is 5 MiB, its most parts are 10,000."""
_CONNECT_S, _READ_S = 5.0, 20.0
_DELETED_AT_ONCE = 1000
_PASSING = {409, 429, 500, 502, 503, 504}
_PASSING_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ConditionalRequestConflict", "OperationAborted"}
_REMEDIES = {
    "NoSuchBucket": "Create the bucket, or correct the name in the URL.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "PermanentRedirect": "Set AWS_REGION to the region of the bucket.",
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the region of the bucket.",
}
_CREDENTIALS = (
    "Check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role), and that they may"
    " s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there."
)
T = TypeVar("T")


class Listed(NamedTuple):
    """An object as a listing has it."""

    key: str
    nbytes: int
    etag: str


class Absent(Exception):
    """There is no such object, upload or part of one."""


class AlreadyThere(Exception):
    """A condition was not met: there is an object of that name."""


class Bucket:
    """See the module. Safe to use from several threads; a client is made at the first request."""

    def __init__(self, name: str, *, retry: Retry | None = None, read_s: float = _READ_S) -> None:
        self._name, self._retry, self._read_s = name, retry or Retry(), read_s
        self._end_s = float("inf")
        self._made = _Client(read_s)

    @property
    def name(self) -> str:
        return f"s3://{self._name}"

    def until(self, end_s: float) -> Bucket:
        """The same bucket and connections; operations give up at `end_s` too."""
        other = Bucket(self._name, retry=self._retry, read_s=self._read_s)
        other._made, other._end_s = self._made, min(end_s, self._end_s)
        return other

    def put_new(self, key: str, body: bytes) -> bool:
        """Put an object where there is none; whether it was put now.

        After a time-out that had succeeded, `False` is said of what this very call has put.
        """
        try:
            self._do("put_object", key, Body=body, IfNoneMatch="*")
        except AlreadyThere:
            return False
        return True

    def replace(self, key: str, body: bytes, etag: str) -> bool:
        """Put an object in the place of the one that a listing gave with that `etag`; whether it was put now.

        After a time-out that had succeeded, `False` is said of what this very call has put.
        """
        try:
            self._do("put_object", key, Body=body, IfMatch=etag)
        except (AlreadyThere, Absent):
            return False
        return True

    def get(self, key: str) -> bytes | None:
        """All of an object, None if there is none."""
        try:
            return self._read(key)
        except Absent:
            return None

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """The bytes of an object from `start` up to `end`.

        Raises:
            Absent: there is no such object.
        """
        return self._read(key, Range=f"bytes={start}-{end - 1}")

    def size(self, key: str) -> int | None:
        """The length of an object, None if there is none."""
        try:
            return int(self._do("head_object", key)["ContentLength"])
        except Absent:
            return None

    def list(self, prefix: str) -> Iterator[Listed]:
        """Every object whose key starts with `prefix`, in the order of keys; a request for each thousand."""
        more: dict[str, str] = {}
        while True:
            page = self._do("list_objects_v2", None, Prefix=prefix, **more)
            for item in page.get("Contents", ()):
                yield Listed(str(item["Key"]), int(item["Size"]), str(item["ETag"]))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def list_folders(self, prefix: str) -> Iterator[str]:
        """The next parts of keys that start with `prefix`, up to a slash."""
        more: dict[str, str] = {}
        while True:
            page = self._do("list_objects_v2", None, Prefix=prefix, Delimiter="/", **more)
            yield from (str(item["Prefix"])[len(prefix) : -1] for item in page.get("CommonPrefixes", ()))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._do("delete_object", key)

    def delete_all(self, keys: Sequence[str]) -> None:
        """Delete objects, a thousand a request; those that are not there are deleted already."""
        for at in range(0, len(keys), _DELETED_AT_ONCE):
            self._retry.call(partial(self._delete, keys[at : at + _DELETED_AT_ONCE]), self.name, end_s=self._end_s)

    def _delete(self, keys: Sequence[str]) -> None:
        objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        for error in self._once("delete_objects", {"Delete": objects}).get("Errors", ()):
            raise _of_answer(self.name, {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 200}})

    def upload_new(self, key: str, data: memoryview) -> None:
        """Put a large object in parts, or find it there; it appears whole, with the last request, or not at all."""

        def attempt() -> None:
            try:
                self._upload(key, data)
            except AlreadyThere:
                return
            except Absent as e:  # the upload is gone: it was completed by a request whose answer was lost, or aborted
                if self.size(key) != data.nbytes:
                    raise Passing(f"an upload of {key} vanished ({e})") from e

        self._retry.call(attempt, f"{self.name}/{key}", end_s=self._end_s)

    def _upload(self, key: str, data: memoryview) -> None:
        upload = self._do("create_multipart_upload", key)["UploadId"]
        part_bytes = max(PART_BYTES, -(-data.nbytes // 10_000))
        try:
            parts = []
            for number, at in enumerate(range(0, data.nbytes, part_bytes), 1):
                body = bytes(data[at : at + part_bytes])
                part = self._do("upload_part", key, UploadId=upload, PartNumber=number, Body=body)
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            self._do(
                "complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException as e:
            if not isinstance(e, Absent):
                self._abort(key, upload, e)
            raise

    def _abort(self, key: str, upload: str, failure: BaseException) -> None:
        """One attempt: what is left is seen by nobody, and what matters is `failure`."""
        try:
            self._once("abort_multipart_upload", {"Key": key, "UploadId": upload})
        except (Passing, TierRefused) as e:
            failure.add_note(f"Parts of the upload {upload} of {key} are left in the bucket: {e}")
        except Absent:
            return

    def _read(self, key: str, **arguments: Any) -> bytes:
        """The body of an object; one that breaks off is asked for again."""

        def attempt() -> bytes:
            answer = self._once("get_object", {"Key": key, **arguments})
            return _translated(self.name, lambda: bytes(answer["Body"].read()))

        return self._retry.call(attempt, f"{self.name}/{key}", end_s=self._end_s)

    def _do(self, operation: str, key: str | None, **arguments: Any) -> Any:
        if key is not None:
            arguments["Key"] = key
        where = self.name if key is None else f"{self.name}/{key}"
        return self._retry.call(lambda: self._once(operation, arguments), where, end_s=self._end_s)

    def _once(self, operation: str, arguments: dict[str, Any]) -> Any:
        call = getattr(self._made.client(self.name), operation)
        return _translated(self.name, lambda: call(Bucket=self._name, **arguments))


class _Client:
    """The client of boto3, made when it is first wanted: importing it takes a quarter of a second.

    A fork makes its own: two processes that speak over one connection get each other's answers.
    """

    def __init__(self, read_s: float) -> None:
        self._read_s = read_s
        self.forget()
        _CLIENTS.add(self)

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._client: Any = None

    def client(self, where: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _translated(where, lambda: self._make(where))
            return self._client

    def _make(self, where: str) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as e:
            raise ExtraMissing(where, "s3") from e
        once = {"total_max_attempts": 1, "mode": "standard"}
        config = Config(connect_timeout=_CONNECT_S, read_timeout=self._read_s, retries=once)
        return boto3.session.Session().client("s3", config=config)


_CLIENTS: WeakSet[_Client] = WeakSet()


def _forget_clients_in_child() -> None:
    for client in list(_CLIENTS):
        client.forget()


os.register_at_fork(after_in_child=_forget_clients_in_child)


def _translated(where: str, action: Callable[[], T]) -> T:
    """Do `action`; each error of boto3 becomes one that says whether to try again, and else what to do."""
    try:
        import botocore.exceptions as theirs
    except ImportError as e:
        raise ExtraMissing(where, "s3") from e
    try:
        return action()
    except theirs.ClientError as e:
        raise _of_answer(where, e.response) from e
    except (theirs.NoCredentialsError, theirs.PartialCredentialsError, theirs.ProfileNotFound) as e:
        raise TierRefused(where, str(e).rstrip("."), _CREDENTIALS) from e
    except theirs.ParamValidationError as e:
        raise TierRefused(where, str(e).rstrip("."), "Correct the name of the bucket in the URL.") from e
    except (theirs.ConnectionError, theirs.HTTPClientError, theirs.IncompleteReadError) as e:
        raise Passing(str(e)) from e
    except theirs.FlexibleChecksumError as e:  # changed on the way, or at rest: the digest inside says which
        raise Passing(str(e)) from e
    except theirs.BotoCoreError as e:
        raise TierRefused(where, str(e).rstrip("."), "Correct AWS_ENDPOINT_URL_S3, AWS_REGION or the profile.") from e
    except ValueError as e:  # boto3's word for an endpoint that is no URL
        raise TierRefused(where, str(e).rstrip("."), "Correct AWS_ENDPOINT_URL_S3.") from e


def _of_answer(where: str, response: Any) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{code} ({response.get('Error', {}).get('Message', '')})"
    if status == 412 or code == "PreconditionFailed":
        return AlreadyThere(said)
    if code in ("NoSuchKey", "NoSuchUpload") or (status == 404 and code in ("404", "NotFound")):
        return Absent(said)
    if status in _PASSING or code in _PASSING_CODES:
        return Passing(f"it answers {status} {said}")
    return TierRefused(where, f"it answers {status} {said}", _REMEDIES.get(code, _CREDENTIALS))
