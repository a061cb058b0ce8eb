"""The only place where the parts are joined: configuration in, a running server out."""

import asyncio
import base64
import errno
import ipaddress
import json
import logging
import os
import re
import secrets
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from inferd import __version__, services
from inferd.actions.accounts import Accounts
from inferd.actions.house import House
from inferd.api import cohere, openai, openapi, routes, tei
from inferd.api.elastic import media, problems
from inferd.api.elastic.handlers import Elastic
from inferd.api.guard import Guard, Open, Secured
from inferd.api.http import Application, Dialect, Limits, Router
from inferd.api.security import Security
from inferd.api.server import Options, Server, loop_factory
from inferd.config import Config, ConfigError, Tls
from inferd.core import memory
from inferd.errors import InferdError
from inferd.local.host import Host, HostOptions
from inferd.local.lexicon import Lexicon
from inferd.security.audit import AuditLog
from inferd.security.authentication import Authenticator
from inferd.security.bootstrap import SUPERUSER, ensure_superuser
from inferd.store import SecretBox, Store
from inferd.upstream.client import Upstream

log = logging.getLogger("inferd")


def application(house: House, guard: Guard) -> Application:
    """Every dialect over one house."""
    elastic = Dialect(
        name="elastic",
        problem=problems.problem,
        authenticate=guard.authenticate,
        check=media.check,
        check_body=media.check_body,
    )
    shown = openapi.OpenApi(guard)
    tables = [
        (elastic, routes.elastic(Elastic(house, guard))),
        (elastic, routes.security(Security(accounts(house, guard), guard))),
        (elastic, openapi.routes(shown, routes.READ)),
        (openai.dialect(guard), openai.routes(openai.OpenAI(house, guard), routes.READ, routes.INFER)),
        (cohere.dialect(guard), cohere.routes(cohere.Cohere(house, guard), routes.INFER)),
        (tei.dialect(guard), tei.routes(tei.Tei(house, guard), routes.READ, routes.INFER)),
    ]
    shown.describe(tables, secured=isinstance(guard, Secured))
    http = house.config.http
    limits = Limits(body=http.max_body_mb << 20, body_idle=http.body_timeout, concurrent=http.max_concurrent)
    return Application(Router(tables), limits=limits)


def accounts(house: House, guard: Guard) -> Accounts | None:
    """None where security is off."""
    return Accounts(house.store.identities, guard.authenticator) if isinstance(guard, Secured) else None


@asynccontextmanager
async def open_house(config: Config) -> AsyncIterator[House]:
    """Store, providers and local models, opened in this order and closed in the other one."""
    prepare_data_dir(config.data_path)
    async with AsyncExitStack() as stack:
        store = await Store.open(config.store_url, secret_box(config))
        stack.push_async_callback(store.close)
        host = Host(host_options(config))
        stack.push_async_callback(host.close, config.http.drain)
        upstream = Upstream(config)
        stack.push_async_callback(upstream.close)
        yield House(
            config=config,
            store=store,
            services=services.services(),
            upstream=upstream,
            host=host,
            lexicon=Lexicon(host),
            node_id=secrets.token_urlsafe(16),
            cluster_id=cluster_id(config.data_path),
        )


def prepare_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"data directory {path}: that is a file") from None
    except OSError as bad:
        raise ConfigError(f"data directory {path}: {bad.strerror}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"data directory {path}: this user may not write there")


def secret_box(config: Config) -> SecretBox:
    """Keys from the environment, else from the key file beside the data."""
    if config.secret_key is not None:
        older = () if config.old_secret_key is None else (config.old_secret_key,)
        return SecretBox.of(config.secret_key, *older)
    return SecretBox.at(config.data_path / "secret.key")


def cluster_id(folder: Path) -> str:
    """22 letters that stay the same for this data directory."""
    file = folder / "cluster_uuid"
    try:
        kept = file.read_text("ascii", "replace").strip() if file.exists() else ""
        if _CLUSTER_ID.fullmatch(kept):
            return kept
        fresh = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        whole = folder / "cluster_uuid.new"
        whole.write_text(fresh)
        whole.replace(file)
    except OSError as bad:
        raise ConfigError(f"{file}: {bad.strerror}") from None
    return fresh


_CLUSTER_ID = re.compile(r"[\w-]{22}", re.ASCII)


def host_options(config: Config) -> HostOptions:
    models = config.models
    return HostOptions(
        aliases=models.aliases,
        repository=models.repository,
        models_dir=config.models_path,
        engine=models.engine,
        precision=models.precision,
        queue_capacity=models.queue_capacity,
        max_allocations=models.max_allocations,
        idle_seconds=models.idle_seconds,
        sparse_side=models.sparse_side,
    )


def check_exposure(config: Config) -> None:
    """Without security a server is for its own machine, unless somebody insists."""
    if config.security.enabled or config.security.allow_open_network or is_loopback(config.http.host):
        return
    raise ConfigError(
        f"security is off and [{config.http.host}] is reachable from other machines: anyone could use your models and your "
        "provider keys. Turn security on, listen on 127.0.0.1, or pass --allow-open-network."
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def configure_logging(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if config.log.format == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=config.log.level.upper())
    logging.captureWarnings(True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """One object a line: ``@timestamp``, ``log.level``, ``log.logger``, ``message``, ``error.stack_trace``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def check_files(tls: Tls) -> None:
    """Said before anything is started: which file of ``tls`` cannot be read."""
    for name in ("cert", "key", "client_ca"):
        path = getattr(tls, name)
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(f"setting [tls.{name}]: [{path}] is no file that this user may read")


def check_services(config: Config) -> None:
    """A service that nobody knows would go on calling the provider itself, without a word."""
    for name, given in config.services.items():
        if services.find(name) is None and services.find(name.replace("_", "-")) is None:
            close = get_close_matches(name, services.services(), n=1)
            hint = f"; did you mean [{close[0]}]?" if close else ""
            raise ConfigError(f"setting [services.{name}]: there is no such service{hint}")
        for key in ("base_url", "auth_base_url"):
            url = getattr(given, key)
            if url is not None and not _is_web(url):
                raise ConfigError(f"setting [services.{name}.{key}] is no http:// or https:// address")


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


async def serve(config: Config) -> None:
    """Runs until a signal comes."""
    memory.share_heaps()
    check_exposure(config)
    check_files(config.tls)
    check_services(config)
    options = Options(
        host=config.http.host,
        port=config.http.port,
        cert=config.tls.cert,
        key=config.tls.key,
        client_ca=config.tls.client_ca,
        drain=config.http.drain,
    )
    async with open_house(config) as house, guarding(house) as guard:
        server = Server(application(house, guard), options)
        scheme = "https" if config.tls.cert else "http"
        told = f"inferd {__version__} listens on {scheme}://{config.http.host}:{server.port}"
        await server.serve(lambda: print(told, file=sys.stderr))


@asynccontextmanager
async def guarding(house: House) -> AsyncIterator[Guard]:
    """The guard that the configuration asks for; at the first start the superuser's password is printed."""
    security = house.config.security
    if not security.enabled:
        log.warning("SECURITY IS OFF: whoever reaches this address may do everything")
        yield Open()
        return
    identities = house.store.identities
    audit = audit_log(house.config)
    authenticator = Authenticator(
        identities, cache_seconds=security.cache_seconds, client_users=house.config.tls.client_users
    )
    try:
        fresh = await ensure_superuser(
            identities.users, authenticator.passwords, house.config.elastic_password
        )
        if fresh is not None:
            print(FIRST_START.format(user=SUPERUSER, password=fresh.reveal()), file=sys.stderr)
        yield Secured(authenticator, audit, note_success=security.audit_success)
    finally:
        authenticator.close()
        if audit is not None:
            await asyncio.to_thread(audit.close)


def audit_log(config: Config) -> AuditLog | None:
    """Raises ``ConfigError`` when it cannot be written."""
    security = config.security
    if not security.audit:
        return None
    path = Path(security.audit_file).expanduser() if security.audit_file else config.data_path / "audit.log"
    return AuditLog(path, max_bytes=security.audit_max_mb << 20, keep=security.audit_keep)


FIRST_START = """
The superuser was created. This password is shown once and never again:

    user      {user}
    password  {password}

Another one: inferd reset-password {user}
"""


def run(config: Config) -> int:
    """Serve; the exit code. A failure at the start is one plain line."""
    configure_logging(config)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(config))
    except (ConfigError, InferdError) as known:
        print(f"inferd: {getattr(known, 'reason', known)}", file=sys.stderr)
        return 1
    except ssl.SSLError as bad:
        print(f"inferd: the files of [tls] cannot be used: {bad.reason or bad}", file=sys.stderr)
        return 1
    except OSError as bad:
        print(f"inferd: {config.http.host}:{config.http.port}: {_why(bad)}", file=sys.stderr)
        return 1
    return 0


def _why(bad: OSError) -> str:
    if bad.errno == errno.EADDRINUSE:
        return "the address is in use; stop what listens there, or choose another --port"
    if bad.errno == errno.EACCES:
        return "this user may not listen there; ports below 1024 need root"
    return bad.strerror or str(bad)
