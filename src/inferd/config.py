"""How this process runs: one frozen struct, read once from a TOML file and ``INFERD_…`` variables.

``INFERD_HTTP__PORT=9300`` sets ``http.port``: ``__`` nests, letter case does not matter. The environment wins over the file.
``services.<name>.base_url`` is reached by ``INFERD_SERVICES__<NAME>__BASE_URL``, where ``-`` in the name is written ``_``.
Only this module reads the environment.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from inferd.core.secrets import Secret


class ConfigError(Exception):
    """A setting that cannot be used; the message names it and says what is expected."""


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how to listen."""

    host: str = "127.0.0.1"
    port: int = 9200
    max_body_mb: int = 100
    body_timeout: float = 60.0
    """Seconds in which a request body must have arrived."""
    drain: float = 20.0
    """Seconds that requests in flight get when the server is told to stop."""
    max_concurrent: int = 4096


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    client_users: dict[str, str] = {}
    """Subject of a client certificate (RFC 4514 string or CN) to user name."""


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: bool = True
    allow_open_network: bool = False
    """With security off: listen on an address that is not loopback all the same."""
    audit: bool = True
    audit_file: str | None = None
    audit_max_mb: int = 64
    audit_keep: int = 5
    audit_success: bool = False
    """Also one line for every request that was let in."""
    cache_seconds: float = 60.0


class Store(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str | None = None
    """SQLAlchemy URL; none: SQLite under the data directory."""


class Models(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    dir: str | None = None
    aliases: dict[str, str] = {}
    """Which weights serve a name, over the defaults: ``.elser_model_2 = ".minilm-sparse"``."""
    repository: dict[str, str] = {}
    """Your own copy of a model's files: a hub repository or a directory, by model id."""
    offline: bool = False
    mirror: str | None = None
    engine: str = "openvino"
    precision: str = "auto"
    """auto, f32, bf16 or int8; auto is the fastest that keeps the promises of docs/models.md."""
    queue_capacity: int = 1024
    max_allocations: int = 0
    """Upper bound of allocations of one deployment; 0: the number of processors."""
    idle_seconds: float = 900.0
    """An adaptive deployment with nothing to do for so long gives its memory back."""
    sparse_side: str = "both"
    """Side of the bundled sparse encoder where the request does not say: both, document or query."""


class Outbound(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    proxy: str | None = None
    no_proxy: str = ""
    """Hosts that are reached without the proxy; default: ``NO_PROXY`` of the environment."""
    ca_certs: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 120.0
    max_connections: int = 50
    max_per_host: int = 20
    max_response_mb: int = 50
    allow: tuple[str, ...] = ()
    """Link-local or metadata addresses (CIDR or host) that user-supplied URLs may reach after all."""
    queue_capacity: int = 2000
    ambient_credentials: bool = True
    """AWS endpoints without keys of their own may use those of the place where this server runs."""


class ServiceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    base_url: str | None = None
    auth_base_url: str | None = None
    """The same for the address that the service fetches access tokens from."""


class Api(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: str = "9.5.0"
    """What ``GET /`` says as ``version.number``."""
    cluster_name: str = "inferd"
    node_name: str = "inferd"
    sse_bom: bool = False
    """Write a byte-order mark before each event of a stream, as the reference does."""
    skip_validate: bool = False
    """``xpack.inference.skip_validate_and_start``: PUT makes no trial call and starts no model."""
    stream_heartbeat: float = 0.0
    """Seconds between comment lines while a stream waits for its next event; 0: none (the contract's form)."""


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    level: str = "info"
    format: str = "text"
    """text or json."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data_dir: str = ""
    secret_key: Secret | None = None
    old_secret_key: Secret | None = None
    """The key before it: what was sealed with that opens too, and ``inferd rotate-secrets`` seals it anew."""
    elastic_password: Secret | None = None
    http: Http = field(default_factory=Http)
    tls: Tls = field(default_factory=Tls)
    security: Security = field(default_factory=Security)
    store: Store = field(default_factory=Store)
    models: Models = field(default_factory=Models)
    outbound: Outbound = field(default_factory=Outbound)
    services: dict[str, ServiceConfig] = {}
    api: Api = field(default_factory=Api)
    log: Log = field(default_factory=Log)
    environment: dict[str, Secret] = {}
    """The variables that ambient cloud credentials are read from (AWS_…)."""

    def base_url(self, service: str) -> str | None:
        """Where calls of this service go instead of the provider's default address."""
        found = self._service(service)
        return found.base_url if found else None

    def auth_base_url(self, service: str) -> str | None:
        """Where token requests of this service go instead of their default address."""
        found = self._service(service)
        return found.auth_base_url if found else None

    def _service(self, name: str) -> ServiceConfig | None:
        return self.services.get(name) or self.services.get(name.replace("-", "_"))

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir).expanduser()

    @property
    def models_path(self) -> Path:
        return Path(self.models.dir).expanduser() if self.models.dir else self.data_path / "models"

    @property
    def store_url(self) -> str:
        return self.store.url or f"sqlite:///{self.data_path / 'inferd.db'}"


_PREFIX = "INFERD_"
_AMBIENT = ("AWS_",)
_SHORT = {"models_dir": ("models", "dir")}
"""INFERD_MODELS_DIR is written without nesting by habit."""


def default_data_dir(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "~")) / ".local" / "share")
    return str(Path(base) / "inferd")


def load(
    file: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Defaults, then the file, then the environment, then ``overrides`` (command line, nested like the file)."""
    env = os.environ if environ is None else environ
    tree: dict[str, Any] = {}
    path = file or env.get("INFERD_CONFIG")
    if path:
        tree = _read_file(path)
    _merge(tree, _from_environment(env))
    _merge(tree, dict(overrides or {}))
    tree.setdefault("data_dir", default_data_dir(env))
    if "ELASTIC_PASSWORD" in env:
        tree.setdefault("elastic_password", env["ELASTIC_PASSWORD"])
    no_proxy = env.get("NO_PROXY") or env.get("no_proxy")
    if no_proxy:
        tree.setdefault("outbound", {}).setdefault("no_proxy", no_proxy)
    if env.get("HF_ENDPOINT"):
        tree.setdefault("models", {}).setdefault("mirror", env["HF_ENDPOINT"])
    tree["environment"] = {k: v for k, v in env.items() if k.startswith(_AMBIENT) or k == "HOME"}
    try:
        return msgspec.convert(tree, Config, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as bad:
        raise ConfigError(f"configuration: {bad}") from None


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise msgspec.ValidationError(f"Expected `str`, got `{type(value).__name__}`")


def _read_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).expanduser().open("rb") as source:
            return tomllib.load(source)
    except OSError as bad:
        raise ConfigError(f"configuration file {path}: {bad.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as bad:
        raise ConfigError(f"configuration file {path}: {bad}") from None


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in env.items():
        if not name.upper().startswith(_PREFIX) or name.upper() == "INFERD_CONFIG":
            continue
        keys = tuple(name[len(_PREFIX) :].lower().split("__"))
        if len(keys) == 1:
            keys = _SHORT.get(keys[0], keys)
        _place(tree, keys, value, name)
    return tree


def _place(tree: dict[str, Any], keys: tuple[str, ...], value: str, name: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{name}: [{key}] is a value, not a group of settings")
    tree[keys[-1]] = _scalar(keys, value)


def _scalar(keys: tuple[str, ...], value: str) -> Any:
    """Maps and lists are written as JSON; everything else is text that the struct converts."""
    if value[:1] in "[{":
        try:
            return msgspec.json.decode(value.encode())
        except msgspec.DecodeError:
            return value
    if keys[-1] == "allow":
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _merge(tree: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value
