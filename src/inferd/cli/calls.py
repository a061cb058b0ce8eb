"""A client of the HTTP API for the commands that talk to a running server."""

import base64
import http.client
import os
import ssl
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from inferd.errors import InferdError


class Server:
    """One running inferd. Errors: ``InferdError`` with a plain line that says what went wrong."""

    def __init__(self, url: str, user: str | None, api_key: str | None, ca_certs: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
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
            context = ssl.create_default_context(cafile=self.ca_certs)
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        else:
            connection = http.client.HTTPConnection(host, port or 80, timeout=timeout)
        try:
            connection.request(method, self.parts.path.rstrip("/") + path, headers=self.headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as bad:
            raise InferdError(
                f"no inferd at {self.parts.geturl()}: {bad}; is `inferd serve` running?"
            ) from None
        finally:
            connection.close()
        value = _decode(body)
        if answer.status >= 300:
            raise InferdError(_reason(value) or f"the server answered {answer.status}")
        return value


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


def segment(id: str) -> str:
    return quote(id, safe="")
