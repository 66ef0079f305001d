"""The connection to a Kubeflow Pipelines server: where it is, who we are, and every failure as one clear line.

Requests that only read are repeated with growing waits where the server is out of reach or overloaded; requests that
change something are repeated only where they cannot have arrived.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp.client
import kfp_server_api
import urllib3
from kfp.client.token_credentials_base import TokenCredentialsBase

from huesong.cli.pipeline import Connection
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log

TOKEN_VARIABLE = "HUESONG_KFP_TOKEN"
ATTEMPTS = 4
BACKOFF_S = 0.5
"""Wait before the second attempt in seconds; it doubles with each further one."""
TIMEOUT_S = (10, 60)
"""To connect, and to wait for an answer."""
LOGIN = f"give a valid token with --token-file or {TOKEN_VARIABLE}, or the header of your login with --header-file"


class FileToken(TokenCredentialsBase):
    """Reads the token anew for every request."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_token(self) -> str:
        return _secret(self.path, "--token-file")

    def refresh_api_key_hook(self, config: Any) -> None:
        config.api_key["authorization"] = self.get_token()


class Client(kfp.client.Client):
    """kfp's client with timeouts, retries with backoff, and a health check that does not print stack traces."""

    def __init__(self, headers: dict[str, str], **arguments: Any) -> None:
        self._headers = headers
        super().__init__(**arguments)
        rest = self._healthz_api.api_client.rest_client
        send = rest.request

        def request(*words: Any, **options: Any) -> Any:  # kfp's methods pass no timeout, and would wait for ever
            options["_request_timeout"] = options.get("_request_timeout") or TIMEOUT_S
            return send(*words, **options)

        rest.request = request

    def _load_config(self, *arguments: Any) -> Any:
        config = super()._load_config(*arguments)
        config.retries = urllib3.Retry(
            total=ATTEMPTS - 1, backoff_factor=BACKOFF_S, status_forcelist=(429, 502, 503, 504),
            allowed_methods={"GET"}, raise_on_status=False, redirect=5,
        )  # fmt: skip
        return config

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """One request; the retries are those of the connection. kfp's constructor may call this already."""
        for name, value in self._headers.items():
            self._healthz_api.api_client.set_default_header(name, value)
        return self._healthz_api.healthz_service_get_healthz(_request_timeout=TIMEOUT_S)


def connect(connection: Connection) -> Client:
    """A client that has reached the server and was let in.

    Raises:
        UserError: no host, an unreadable secret, a server out of reach, refused credentials, a bad certificate.
    """
    host = connection.host or os.environ.get("KF_PIPELINES_ENDPOINT")
    if not host and not connection.kube_context:
        raise UserError(
            "no Kubeflow Pipelines server: give --host (for a port-forward http://localhost:8888), set "
            "KF_PIPELINES_ENDPOINT, or name a context of your kubeconfig with --kube-context"
        )
    if host and not host.startswith(("http://", "https://")):
        raise UserError(f"--host {host}: write the scheme too, https://{host} or http://{host}")
    where = host or f"the cluster of context {connection.kube_context}"
    token = os.environ.get(TOKEN_VARIABLE)
    if connection.token_file is not None:
        _secret(connection.token_file, "--token-file")
    if connection.ca_cert is not None and not connection.ca_cert.is_file():
        raise UserError(f"--ca-cert {connection.ca_cert} does not exist")
    headers = _headers(connection.header_file) if connection.header_file else {}
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # each retry would be a warning of its own
    log.debug("connecting to %s", where)
    with reported(where), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = Client(
            headers,
            host=None if connection.kube_context and not connection.host else host,
            namespace=connection.namespace or "kubeflow",
            existing_token=token if token and connection.token_file is None else None,
            credentials=FileToken(connection.token_file) if connection.token_file else None,
            ssl_ca_cert=str(connection.ca_cert) if connection.ca_cert else None,
            kube_context=connection.kube_context,
            verify_ssl=True,
        )
        client.get_kfp_healthz()
        answer = client._healthz_api.api_client.last_response.urllib3_response.headers.get("content-type", "")
        if "json" not in answer:
            raise UserError(f"{where} answers with a page instead of data, most likely its login page: {LOGIN}")
    return client


@contextlib.contextmanager
def reported(where: str) -> Iterator[None]:
    """Turn the client's exceptions into one line that names the server, the reason and the remedy."""
    try:
        yield
    except kfp_server_api.ApiException as error:
        detail = _detail(error)
        if error.status in (401, 403):
            raise UserError(f"{where} refuses the login ({error.status} {error.reason}{detail}): {LOGIN}") from error
        if error.status in (429, 502, 503, 504):
            raise UserError(f"{where} is overloaded or starting ({error.status}{detail}): try again later") from error
        if not error.status:
            raise UserError(f"{where} is not reachable over TLS: {' '.join(str(error.reason).split())}") from error
        raise UserError(f"{where} refuses the request ({error.status} {error.reason}{detail})") from error
    except urllib3.exceptions.MaxRetryError as error:
        reason = " ".join(str(error.reason).split())
        if isinstance(error.reason, urllib3.exceptions.SSLError):
            raise UserError(f"{where}: its certificate is not trusted ({reason}): pass --ca-cert") from error
        raise UserError(
            f"{where} is not reachable after {ATTEMPTS} attempts ({reason}): check the address and the port-forward"
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise UserError(f"{where}: connection lost ({' '.join(str(error).split())}): try again") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep kfp's own prints, links to pages that may not exist, off standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _detail(error: kfp_server_api.ApiException) -> str:
    """The server's own words, where it gives any."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        content = json.loads(body)
        body = str(content.get("message") or content.get("error") or body)
    except (ValueError, AttributeError):
        pass
    text = " ".join(body.split())[:300]
    return f": {text}" if text else ""


def _secret(path: Path, option: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path} cannot be read: {error}") from error
    if not text:
        raise UserError(f"{option} {path} is empty: put the secret into it")
    return text


def _headers(path: Path) -> dict[str, str]:
    """`Name: value` lines; blank ones and comments are left out."""
    headers = {}
    for number, line in enumerate(_secret(path, "--header-file").splitlines(), start=1):
        name, colon, value = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not name.strip() or not value.strip():
            raise UserError(f"--header-file {path}, line {number}: write `Name: value`")
        headers[name.strip()] = value.strip()
    return headers
