"""Objects in S3 or in a local folder behind four verbs: get, put, keys, delete.

Every failure becomes a UserError of one line that names the object. What may pass by itself is tried again first: requests by
botocore, a body that breaks off here. boto3 is imported only where an `s3://` address is opened.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from huesong.runtime.errors import UserError
from huesong.runtime.files import WORK, scratch
from huesong.runtime.progress import log

Item = TypeVar("Item")

ATTEMPTS = 4
BACKOFF_S = 0.5
"""Wait in seconds before a body is fetched a second time; it doubles with each further one."""
CONNECT_S, READ_S = 10, 60
WORKERS = 16
"""Objects in flight at once; small files are bound by the round trip, not by the bandwidth."""
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) of an account that may use the bucket"

REGION = (
    "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301",
)  # fmt: skip
QUOTA = "delete old data versions there, or have the quota raised"
CAUSES = {
    ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"): (
        "the keys have expired", "get new ones (`aws sso login`, or AWS_SESSION_TOKEN with its two keys)",
    ),
    ("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"): (
        "the clock of this machine is off", "set it (`timedatectl set-ntp true`)",
    ),
    ("InvalidAccessKeyId", "InvalidToken", "UnrecognizedClientException"): (
        "access denied, the server does not know the key", CREDENTIALS,
    ),
    ("SignatureDoesNotMatch",): ("access denied, the secret key is not the one of this access key", CREDENTIALS),
    ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"): (
        "access denied: the account may not do this", "have it allowed to read, list and write there; or " + CREDENTIALS,
    ),
    ("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "ServiceUnavailable"): (
        f"the server asks to slow down, {ATTEMPTS} times in a row", "try again later",
    ),
    ("QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "StorageFull", "InsufficientStorage"): (
        "the storage is full", QUOTA,
    ),
}  # fmt: skip
"""Codes of S3 and of servers that speak its protocol -> what is wrong, and the remedy."""


class MissingObject(UserError):
    """The object is not there."""


class Objects(Protocol):
    """A place of objects, addressed by keys with forward slashes."""

    uri: str

    def get(self, key: str, path: Path) -> None:
        """Write the object to `path`; MissingObject if there is none."""

    def put(self, path: Path, key: str) -> None:
        """Store the file; the object appears whole or not at all."""

    def keys(self, prefix: str) -> dict[str, int]:
        """Keys that begin with `prefix`, with their sizes in bytes."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those already gone are no error."""


def open_objects(uri: str, endpoint_url: str | None = None) -> Objects:
    """The place named `s3://bucket/prefix` or by a folder.

    Args:
        uri: where the objects lie.
        endpoint_url: an S3-compatible server; None: what AWS_ENDPOINT_URL says, or AWS itself.

    Raises:
        UserError: another scheme, no bucket name, or boto3 is not installed.
    """
    if uri.startswith("s3://"):
        return S3Objects(uri, endpoint_url)
    if "://" in uri and not uri.startswith("file://"):
        raise UserError(f"{uri}: unknown kind of storage; give s3://bucket/prefix or a folder")
    return FolderObjects(uri.removeprefix("file://"))


class FolderObjects:
    """Objects as files below a folder."""

    def __init__(self, folder: str) -> None:
        self.uri = folder.rstrip("/") or "/"
        self.folder = Path(folder)

    def get(self, key: str, path: Path) -> None:
        source = self.folder / key
        if source.exists() and not source.is_file():
            raise UserError(f"{self.uri}/{key} is no ordinary file: remove it, and publish the version again")
        try:
            shutil.copyfile(source, path)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingObject(f"{self.uri}/{key} does not exist") from None
        except PermissionError as error:
            if error.filename != str(source):
                raise
            raise UserError(f"{self.uri}/{key} cannot be read: {error.strerror}; check its permissions") from error

    def put(self, path: Path, key: str) -> None:
        target = self.folder / key
        # A workspace at the top: what a killed process leaves is swept by whoever writes next, whichever key that is.
        with scratch(self.folder / PurePosixPath(key).parts[0]) as work:
            shutil.copyfile(path, work / "part")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(work / "part", target)

    def keys(self, prefix: str) -> dict[str, int]:
        start = self.folder / prefix.rpartition("/")[0]
        files = ((p.relative_to(self.folder).as_posix(), p) for p in start.rglob("*") if p.is_file())
        found = {key: path.stat().st_size for key, path in files if WORK not in key}
        return {key: size for key, size in sorted(found.items()) if key.startswith(prefix)}

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self.folder / key).unlink(missing_ok=True)


class S3Objects:
    """Objects in a bucket of S3 or of a server that speaks its protocol."""

    def __init__(self, uri: str, endpoint_url: str | None = None) -> None:
        path = uri.removeprefix("s3://").rstrip("/")
        self.uri = f"s3://{path}"
        self.bucket, _, prefix = path.partition("/")
        if not self.bucket:
            raise UserError(f"{uri} names no bucket: give s3://bucket/prefix")
        self.prefix = f"{prefix}/" if prefix else ""
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise UserError(f"{uri} needs boto3: pip install 'huesong[registry]'") from None
        config = Config(
            connect_timeout=CONNECT_S, read_timeout=READ_S, max_pool_connections=WORKERS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # Servers other than AWS often do not know the newer checksums; MD5 and SHA-256 of our own are stricter.
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        with self._clear_errors(""):
            self._client: Any = boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)

    def get(self, key: str, path: Path) -> None:
        from botocore.exceptions import HTTPClientError, IncompleteReadError
        from urllib3.exceptions import HTTPError

        for attempt in range(ATTEMPTS):
            with self._clear_errors(key):
                body = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"]
                try:
                    with path.open("wb") as stream:
                        for block in body.iter_chunks(2**20):
                            stream.write(block)
                    return
                except (HTTPClientError, IncompleteReadError, HTTPError) as error:
                    if attempt == ATTEMPTS - 1:
                        raise
                    log.debug("%s/%s: %s; fetching it again", self.uri, key, error)
            time.sleep(BACKOFF_S * 2**attempt)

    def put(self, path: Path, key: str) -> None:
        with self._clear_errors(key):
            self._client.upload_file(str(path), self.bucket, self.prefix + key)

    def keys(self, prefix: str) -> dict[str, int]:
        found = {}
        with self._clear_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    found[entry["Key"].removeprefix(self.prefix)] = entry["Size"]
        return found

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:  # one by one: not every S3-compatible server knows the request that deletes many
            with self._clear_errors(key):
                self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    @contextmanager
    def _clear_errors(self, key: str) -> Iterator[None]:
        """Turn botocore's exceptions, after its last attempt, into a UserError."""
        from boto3.exceptions import S3UploadFailedError
        from botocore import exceptions as botocore
        from urllib3.exceptions import HTTPError

        where = f"{self.uri}/{key}" if key else self.uri
        try:
            yield
        except UserError:  # is a ValueError, and has its cause already
            raise
        except S3UploadFailedError as error:  # boto3 keeps the reason as the cause, or only as text
            raise self._refusal(error.__context__ or error, where) from error
        except botocore.ClientError as error:
            raise self._refusal(error, where) from error
        except (botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.ProfileNotFound) as error:
            raise UserError(f"{where}: no usable credentials ({error}); {CREDENTIALS}") from error
        except botocore.SSLError as error:
            raise UserError(
                f"{where}: {_one_line(error)}; name the file of the server's CA in AWS_CA_BUNDLE"
            ) from error
        except (botocore.EndpointConnectionError, botocore.ConnectTimeoutError) as error:
            reason = f"no server answers, gave up after {ATTEMPTS} attempts ({_one_line(error)})"
            raise UserError(f"{where}: {reason}; start it, or check AWS_ENDPOINT_URL and the connection") from error
        except (botocore.TokenRetrievalError, botocore.UnauthorizedSSOTokenError) as error:
            raise UserError(
                f"{where}: the keys have expired ({_one_line(error)}); `aws sso login` gets new ones"
            ) from error
        except (botocore.ParamValidationError, ValueError) as error:
            raise UserError(f"{where}: {_one_line(error)}; check the address and the endpoint") from error
        except (botocore.HTTPClientError, botocore.ConnectionError, botocore.IncompleteReadError, HTTPError) as error:
            raise _gave_up(where, error) from error
        except botocore.BotoCoreError as error:
            raise UserError(f"{where}: {_one_line(error)}") from error

    def _refusal(self, error: BaseException, where: str) -> UserError:
        """What the server said no with, each cause in its own line with its own remedy."""
        response = getattr(error, "response", None) or {}
        said = response.get("Error", {})
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        text = str(error)  # all there is where boto3 wraps the error of an upload
        code = str(said.get("Code", "")) or next(iter(re.findall(r"\((\w+)\) when calling", text)), "")
        if code == "NoSuchBucket":
            return UserError(f"s3://{self.bucket} does not exist: make the bucket first, or check its name")
        if code in ("NoSuchKey", "404", "NotFound"):
            return MissingObject(f"{where} does not exist")
        if code in REGION or status in (301, 307):
            region = said.get("Region") or next(iter(re.findall(r"expecting '([\w-]+)'", text)), "")
            named = f"set AWS_DEFAULT_REGION={region}" if region else "set AWS_DEFAULT_REGION to the bucket's region"
            return UserError(f"{where}: the bucket is in another region ({code or status}); {named}")
        for codes, (what, remedy) in CAUSES.items():
            if code in codes:
                return UserError(f"{where}: {what} ({code}); {remedy}")
        if status == 429:
            return UserError(f"{where}: the server asks to slow down ({status}); try again later")
        if status == 507:
            return UserError(f"{where}: the storage is full ({status}); {QUOTA}")
        if status in (401, 403) or "Forbidden" in text:
            return UserError(f"{where}: access denied ({code or status}); {CREDENTIALS}")
        if status >= 500 or code == "RequestTimeout":
            return _gave_up(where, error)
        return UserError(f"{where}: {_one_line(error)}")


def in_parallel(action: Callable[[Item], None], items: Iterable[Item]) -> Iterator[None]:
    """Do `action` for every item in threads, yielding as each is done; the first failure stops the rest."""
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="objects")
    try:
        for future in as_completed([pool.submit(action, item) for item in items]):
            future.result()
            yield
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _gave_up(where: str, error: BaseException) -> UserError:
    reason = f"gave up after {ATTEMPTS} attempts ({_one_line(error)})"
    return UserError(f"{where}: {reason}; check the connection and the endpoint, then try again")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
