"""A client of the HTTP API for the commands that talk to a running server."""

import base64
import http.client
import os
import ssl
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from inferd.errors import InferdError


class Server:
    """One running inferd. Errors: ``InferdError`` with a plain line that says what went wrong."""

    def __init__(self, url: str, user: str | None, api_key: str | None, ca_certs: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
            raise InferdError(f"[{url}] is not an http or https address")
        self.parts = parts
        self.headers = {"Accept": "application/json"}
        self.ca_certs = ca_certs
        if api_key:
            self.headers["Authorization"] = f"ApiKey {api_key}"
        elif user:
            name, _, password = user.partition(":")
            if not password:
                password = os.environ.get("ELASTIC_PASSWORD", "")
            token = base64.b64encode(f"{name}:{password}".encode()).decode()
            self.headers["Authorization"] = f"Basic {token}"

    def call(self, method: str, path: str, timeout: float = 30.0) -> Any:
        host, port = self.parts.hostname or "", self.parts.port
        connection: http.client.HTTPConnection
        if self.parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._trust())
        else:
            connection = http.client.HTTPConnection(host, port or 80, timeout=timeout)
        try:
            connection.request(method, self.parts.path.rstrip("/") + path, headers=self.headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as bad:
            raise InferdError(f"no inferd at {self.parts.geturl()}: {_why(bad)}") from None
        finally:
            connection.close()
        value = _decode(body)
        if answer.status >= 300:
            hint = "; name yourself with --user or --api-key" if answer.status == 401 else ""
            raise InferdError((_reason(value) or f"the server answered {answer.status}") + hint)
        if not isinstance(value, dict):
            raise InferdError(f"what answers at {self.parts.geturl()} is no inferd")
        return value

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_certs)
        except OSError as bad:
            raise InferdError(f"--ca-certs {self.ca_certs}: {bad.strerror}") from None


def _why(bad: Exception) -> str:
    if isinstance(bad, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({bad.verify_message}); name the authority with --ca-certs"
    if isinstance(bad, ConnectionRefusedError):
        return "nobody listens there; is `inferd serve` running?"
    if isinstance(bad, http.client.HTTPException):
        return "it does not speak HTTP; https:// perhaps?"
    return getattr(bad, "strerror", None) or str(bad)


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None


def _reason(value: Any) -> str | None:
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        return str(error.get("reason"))
    return error if isinstance(error, str) else None


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def segment(id: str) -> str:
    return quote(id, safe="")
