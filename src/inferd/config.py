"""How this process runs: one frozen struct, read once from a TOML file and ``INFERD_…`` variables.

``INFERD_HTTP__PORT=9300`` sets ``http.port``: ``__`` nests, letter case does not matter. The environment wins over the file.
``services.<name>.base_url`` is reached by ``INFERD_SERVICES__<NAME>__BASE_URL``, where ``-`` in the name is written ``_``.
Only this module reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from inferd.core.secrets import Secret


class ConfigError(Exception):
    """A setting that cannot be used; the message names it and says what is expected."""


Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
Pause = Annotated[float, Meta(ge=0)]


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how to listen."""

    host: str = "127.0.0.1"
    """Address to listen on; ``0.0.0.0`` for every one of this machine."""
    port: Port = 9200
    """0 takes a free one, which is printed."""
    max_body_mb: Positive = 100
    """Largest request body, as sent and once decompressed; more is answered 413."""
    body_timeout: Seconds = 60.0
    """Longest wait in seconds for the next piece of a request body; later is answered 408."""
    drain: Pause = 20.0
    """Seconds that requests in flight get when the server is told to stop."""
    max_concurrent: Positive = 4096
    """Requests in flight; more are answered 429."""


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HTTPS, and users by client certificate."""

    cert: str | None = None
    """PEM file with the certificate and its chain; with one the server speaks HTTPS only. A new file is noticed."""
    key: str | None = None
    """PEM file with its private key, where ``cert`` does not hold it."""
    client_ca: str | None = None
    """PEM file with the authorities whose client certificates are accepted."""
    client_users: dict[str, str] = {}
    """Subject of a client certificate (RFC 4514 string or CN) to user name."""


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Credentials and the audit log."""

    enabled: bool = True
    """Ask for credentials."""
    allow_open_network: bool = False
    """With security off: listen on an address that is not loopback all the same."""
    audit: bool = True
    """Write the audit log: refused requests and every change."""
    audit_file: str | None = None
    """Its file; none: ``audit.log`` in the data directory."""
    audit_max_mb: Positive = 64
    """Size at which it is rotated."""
    audit_keep: Count = 5
    """Rotated files that are kept."""
    audit_success: bool = False
    """Also one line for every request that was let in."""
    cache_seconds: Pause = 60.0
    """How long a password that was right is not hashed again."""


class Store(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where endpoints, users and keys are kept."""

    url: str | None = None
    """SQLAlchemy URL; none: SQLite under the data directory."""


class Models(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local models."""

    dir: str | None = None
    """Downloaded models; none: ``models`` in the data directory. Also ``INFERD_MODELS_DIR``."""
    aliases: dict[str, str] = {}
    """Which weights serve a name, over the defaults: ``.elser_model_2 = ".minilm-sparse"``."""
    repository: dict[str, str] = {}
    """Your own copy of a model's files: a hub repository or a directory, by model id."""
    offline: bool = False
    """Never ask the hub."""
    mirror: str | None = None
    """Address of a hub of your own. Also ``HF_ENDPOINT``."""
    token: Secret | None = None
    """Token of the hub or of the mirror, for repositories that ask for one; none: the hub client's login."""
    engine: Literal["openvino", "onnxruntime", "cuda"] = "openvino"
    """What runs the models; the latter two need the extras of these names."""
    precision: Literal["auto", "f32", "bf16", "int8"] = "auto"
    """auto is the fastest that keeps the promises of docs/models.md."""
    queue_capacity: Positive = 1024
    """Requests that wait for one deployment; more are answered 429."""
    max_allocations: Count = 0
    """Upper bound of allocations of one deployment; 0: the number of processors."""
    idle_seconds: Seconds = 900.0
    """An adaptive deployment with nothing to do for so long gives its memory back."""
    sparse_side: Literal["both", "document", "query"] = "both"
    """Side of the bundled sparse encoder where the request does not say."""


class Outbound(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls to providers."""

    proxy: Secret | None = None
    """``http://``, ``https://`` or ``socks5://`` address of a proxy."""
    no_proxy: str = ""
    """Hosts that are reached without the proxy; default: ``NO_PROXY`` of the environment."""
    ca_certs: str | None = None
    """PEM file with authorities to trust besides the system's."""
    client_cert: str | None = None
    """PEM file with a certificate to show to providers."""
    client_key: str | None = None
    """PEM file with its private key."""
    connect_timeout: Seconds = 5.0
    """Seconds to connect in."""
    read_timeout: Seconds = 120.0
    """Seconds between two pieces of an answer."""
    max_connections: Positive = 50
    """Connections to all providers together."""
    max_per_host: Positive = 20
    """Connections to one provider."""
    max_response_mb: Positive = 50
    """Largest answer that is read."""
    allow: tuple[str, ...] = ()
    """Link-local or metadata addresses (CIDR or host) that user-supplied URLs may reach after all."""
    queue_capacity: Positive = 2000
    """Calls that wait for their rate limit or a connection; more are answered 429."""
    ambient_credentials: bool = True
    """AWS endpoints without keys of their own may use those of the place where this server runs."""


class ServiceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One service."""

    base_url: str | None = None
    """Scheme, host and port that calls of the service go to instead; the path is kept."""
    auth_base_url: str | None = None
    """The same for the address that the service fetches access tokens from."""


class Api(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients see."""

    version: str = "9.5.0"
    """What ``GET /`` says as ``version.number``."""
    cluster_name: str = "inferd"
    """The same for ``cluster_name``."""
    node_name: str = "inferd"
    """The same for ``name``."""
    sse_bom: bool = False
    """Write a byte-order mark before each event of a stream, as the reference does."""
    skip_validate: bool = False
    """``xpack.inference.skip_validate_and_start``: PUT makes no trial call and starts no model."""
    stream_heartbeat: Pause = 0.0
    """Seconds between comment lines while a stream waits for its next event; 0: none (the contract's form)."""


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe line that is written."""
    format: Literal["text", "json"] = "text"
    """json: one object a line."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data_dir: str = ""
    """Endpoints, keys and downloaded models; default: ``~/.local/share/inferd``."""
    secret_key: Secret | None = None
    """The key that seals stored provider keys; none: the file ``secret.key`` in the data directory."""
    old_secret_key: Secret | None = None
    """The key before it: what was sealed with that opens too, and ``inferd rotate-secrets`` seals it anew."""
    elastic_password: Secret | None = None
    """The superuser's password at the first start. Also ``ELASTIC_PASSWORD``; none: one is made and printed."""
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
    """The variables that ambient cloud credentials are read from (AWS_…); no setting."""

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
_NOT_SETTINGS = ("INFERD_CONFIG", "INFERD_URL", "INFERD_USER", "INFERD_API_KEY")
"""Which file to read, and what ``inferd endpoints`` goes by."""
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
    text = _read_file(path) if path else ""
    if path:
        tree = _parsed(path, text)
    variables = _variables(env)
    _merge(tree, _from_environment(env, variables))
    _merge(tree, dict(overrides or {}))
    tree.setdefault("data_dir", default_data_dir(env))
    if "ELASTIC_PASSWORD" in env:
        tree.setdefault("elastic_password", env["ELASTIC_PASSWORD"])
    no_proxy = env.get("NO_PROXY") or env.get("no_proxy")
    if no_proxy:
        tree.setdefault("outbound", {}).setdefault("no_proxy", no_proxy)
    if env.get("HF_ENDPOINT"):
        tree.setdefault("models", {}).setdefault("mirror", env["HF_ENDPOINT"])
    try:
        _check_names(tree, Config)
        tree["environment"] = {k: v for k, v in env.items() if k.startswith(_AMBIENT) or k == "HOME"}
        return msgspec.convert(tree, Config, strict=False, dec_hook=_decode)
    except _Unknown as unknown:
        setting, said = unknown.setting, str(unknown)
    except msgspec.ValidationError as bad:
        setting, said = _told(str(bad))
    keys = tuple(setting.partition("[")[0].split("."))
    if _holds(overrides or {}, keys):
        raise ConfigError(said)
    given_by = _variable(variables, keys)
    line = None if given_by else _line(text, keys)
    where = given_by or (f"configuration file {path}, line {line}" if line else None)
    raise ConfigError(f"{where}: {said}" if where else said)


class _Unknown(Exception):
    """A setting that does not exist."""

    def __init__(self, setting: str, hint: str) -> None:
        super().__init__(f"unknown setting [{setting}]{hint}")
        self.setting = setting


def _check_names(tree: Mapping[str, Any], kind: type[Struct], path: str = "") -> None:
    """A setting that does not exist, with the one that may have been meant."""
    known = {f.name: f.type for f in msgspec.structs.fields(kind) if f.name != "environment"}
    for key, value in tree.items():
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"; did you mean [{path}{close[0]}]?" if close else ""
            raise _Unknown(f"{path}{key}", hint)
        if known[key] == dict[str, ServiceConfig] and isinstance(value, Mapping):
            for name, one in value.items():
                if isinstance(one, Mapping):
                    _check_names(one, ServiceConfig, f"{path}{key}.{name}.")
        below = known[key]
        if isinstance(value, Mapping) and isinstance(below, type) and issubclass(below, Struct):
            _check_names(value, below, f"{path}{key}.")


def _told(fault: str) -> tuple[str, str]:
    """``Expected `int`, got `str` - at `$.http.port` `` as a sentence about ``http.port``."""
    found = re.fullmatch(r"(.*?)(?: - at `\$\.(.*)`)?", fault, re.DOTALL)
    if found is None or found[2] is None:
        return "", f"configuration: {fault}"
    allowed = _choices(found[2])
    expected = f"one of [{', '.join(allowed)}]" if allowed else found[1]
    return found[2], f"setting [{found[2]}]: {expected}"


def _holds(tree: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def _variable(variables: Mapping[str, tuple[str, ...]], keys: tuple[str, ...]) -> str | None:
    """The one that gave this setting: by itself, as part of a group in JSON, or as one of an unknown group."""
    for name, given in variables.items():
        if given == keys[: len(given)] or given[: len(keys)] == keys:
            return name
    return None


_TABLE = re.compile(r"\s*\[\[?([^\]]+)\]")
_MEMBER = re.compile(r"\s*([^=#\[\]{}]+?)\s*=")
_KEY = re.compile(r"\"[^\"]*\"|'[^']*'|[\w-]+")


def _line(text: str, keys: tuple[str, ...]) -> int | None:
    """Where a TOML text sets this, or the nearest table around it."""
    table: tuple[str, ...] = ()
    best, found = 0, None
    for number, line in enumerate(text.splitlines(), 1):
        header, member = _TABLE.match(line), _MEMBER.match(line)
        if header:
            table = here = _names(header[1])
        elif member:
            here = (*table, *_names(member[1]))
        else:
            continue
        shared = min(len(here), len(keys))
        if shared > best and here[:shared] == keys[:shared]:
            best, found = shared, number
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in _KEY.findall(text))


def _choices(path: str) -> tuple[str, ...]:
    """What a setting may be, where that is a short list."""
    kind: Any = Config
    for name in path.split("."):
        fields = msgspec.structs.fields(kind) if isinstance(kind, type) and issubclass(kind, Struct) else ()
        kind = next((f.type for f in fields if f.name == name), None)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise msgspec.ValidationError(f"Expected `str`, got `{type(value).__name__}`")


def _read_file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8")
    except OSError as bad:
        raise ConfigError(f"configuration file {path}: {bad.strerror}") from None
    except UnicodeDecodeError as bad:
        raise ConfigError(f"configuration file {path}: {bad}") from None


def _parsed(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as bad:
        raise ConfigError(f"configuration file {path}: {bad}") from None


def _variables(env: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Which variable sets what."""
    found = {}
    for name in env:
        if name.upper().startswith(_PREFIX) and name.upper() not in _NOT_SETTINGS:
            keys = tuple(name[len(_PREFIX) :].lower().split("__"))
            found[name] = _SHORT.get(keys[0], keys) if len(keys) == 1 else keys
    return found


def _from_environment(env: Mapping[str, str], variables: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, keys in variables.items():
        _place(tree, keys, env[name], name)
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
