"""The way out: proxy, trust, pools, other addresses for a provider, and what may not be reached at all.

Everything here is configuration (``outbound.*``, ``services.<name>.*``); Elasticsearch has none of it. docs/outbound.md.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from inferd import __version__
from inferd.config import Config, ConfigError, Outbound
from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.errors import Rejected, StatusError
from inferd.upstream.failures import Unsendable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORBIDDEN: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; AWS, Google, Azure, Oracle metadata
        "fe80::/10",  # link-local
        "fd00:ec2::254/128",  # AWS metadata
        "fd20:ce::254/128",  # Google metadata
        "100.100.100.200/32",  # Alibaba metadata
        "168.63.129.16/32",  # Azure platform
        "192.0.0.192/32",  # Oracle metadata
    )
)
"""What no URL may reach unless ``outbound.allow`` names it."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


class Policy:
    """Which addresses may be called. Names are judged by what they resolve to, when the connection is made."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._hosts.add(entry.lower())

    def check(self, host: str) -> None:
        """Refuse a URL's host when it is a forbidden address in any spelling (400). A name passes."""
        if self._is_refused(host):
            raise _forbidden(host)

    def check_resolved(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a name of which any address is forbidden (400)."""
        if host.lower() not in self._hosts and any(self._is_refused(address) for address in addresses):
            raise _forbidden(host)

    def _is_refused(self, host: str) -> bool:
        found = literal(host)
        if found is None or host.lower() in self._hosts:
            return False
        return any(self._is_forbidden(address) for address in (found, *embedded(found)))

    def _is_forbidden(self, address: Address) -> bool:
        return _within(address, FORBIDDEN) and not _within(address, self._networks)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _forbidden(host: str) -> StatusError:
    return StatusError(
        400,
        f"Host [{host}] is a link-local or metadata address, which may not be called from here; "
        "[outbound.allow] of this server's configuration lists exceptions",
    )


def literal(host: str) -> Address | None:
    """The address that a host is in any spelling the socket layer or a proxy takes (decimal, octal, short, with a last
    dot); None for a name."""
    host = host.removesuffix(".")
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError, ValueError):
        return None


def embedded(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address leads to: mapped, compatible, NAT64, 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    bare = ipaddress.IPv6Address(int(address))  # without the scope, which no network contains
    if bare in _NAT64 or bare in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(bare) & 0xFFFFFFFF))
    found.append(bare)
    return [one for one in found if one is not None]


class _Resolver(AbstractResolver):
    """The system's resolver under the policy: what was checked is what is connected to."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        self._policy.check_resolved(host, (one["host"] for one in found))
        return found

    async def close(self) -> None:
        await self._system.close()


class Route(NamedTuple):
    """A URL ready to be called, the session for it and the HTTP proxy to ask."""

    url: URL
    session: ClientSession
    proxy: str | None


_MAX_ROUTES = 1024


class Egress:
    """Sessions and routes of this process. ``ConfigError`` when a file or a proxy address cannot be used."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._outbound = config.outbound
        self._socks, self._proxy = _proxies(config.outbound.proxy)
        self._direct = NoProxy(config.outbound.no_proxy)
        self._tls = _trust(config.outbound)
        connect, silence = config.outbound.connect_timeout, config.outbound.read_timeout
        self._patient = ClientTimeout(total=None, sock_connect=connect, sock_read=silence)
        self._brief = ClientTimeout(total=None, sock_connect=connect)
        self._sessions: dict[bool, ClientSession] = {}
        self._routes: dict[str, Route] = {}
        self._closed = False
        self._rebased = lru_cache(4096)(rebased)
        self.policy = Policy(config.outbound.allow)

    def route(self, address: str, exempt: bool = False) -> Route:
        """How to send to a URL. Refuses forbidden addresses (400); ``Unsendable`` for what is no http or https URL.

        ``exempt``: our own call to this machine's metadata service; it is allowed and takes no proxy.
        """
        known = self._routes.get(address)
        if known is not None and not exempt:
            return known
        if self._closed:
            raise Rejected("This server is stopping, nothing is sent any more")
        url = _parsed(address)
        host = url.raw_host or ""
        if exempt:
            return Route(url, self._session(False), None)
        self.policy.check(host)
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        route = self._routes[address] = self._route(url, host)
        return route

    def _route(self, url: URL, host: str) -> Route:
        if (self._proxy is None and self._socks is None) or self._direct.covers(host, url.port):
            return Route(url, self._session(False), None)
        return Route(url, self._session(self._socks is not None), self._proxy)

    def patience(self, deadline: float | None) -> ClientTimeout:
        """``connect_timeout`` and ``read_timeout``; the second only where the caller's deadline is not earlier anyway."""
        if deadline is None or deadline - asyncio.get_running_loop().time() > self._outbound.read_timeout:
            return self._patient
        return self._brief

    def place(self, service: str, endpoint: Endpoint, url: str) -> str:
        """The URL of a call after ``services.<name>.base_url``; an address that the endpoint's user gave stays."""
        base = self._config.base_url(service)
        if base is None or given_by_user(endpoint, url):
            return url
        return self._rebased(url, base)

    def token_place(self, service: str, url: str) -> str:
        """The URL of a token request after ``services.<name>.auth_base_url``."""
        base = self._config.auth_base_url(service)
        return url if base is None else self._rebased(url, base)

    def pool(self) -> dict[str, int]:
        """Connections in use, waited for, idle and allowed (api.md 4.6). aiohttp shows them in private members only."""
        connectors = [session.connector for session in self._sessions.values() if session.connector]
        return {
            "leased_connections": sum(len(c._acquired) for c in connectors),
            "pending_connections": sum(len(waiting) for c in connectors for waiting in c._waiters.values()),
            "available_connections": sum(len(idle) for c in connectors for idle in c._conns.values()),
            "max_connections": self._outbound.max_connections,
        }

    async def close(self) -> None:
        self._closed = True
        self._routes.clear()
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _session(self, socks: bool) -> ClientSession:
        session = self._sessions.get(socks)
        if session is None:
            session = self._sessions[socks] = self._open(socks)
        return session

    def _open(self, socks: bool) -> ClientSession:
        # No cookies: endpoints of different users share the session. No compression: an answer's size is what it says.
        return ClientSession(
            connector=self._socks_connector() if socks else self._connector(),
            cookie_jar=DummyCookieJar(),
            headers={"User-Agent": f"inferd/{__version__}"},
            skip_auto_headers=("Accept", "Accept-Encoding"),
            timeout=self._patient,
            requote_redirect_url=False,
        )

    def _connector(self) -> TCPConnector:
        return TCPConnector(
            limit=self._outbound.max_connections,
            limit_per_host=self._outbound.max_per_host,
            keepalive_timeout=60.0,
            resolver=_Resolver(self.policy),
            ssl=self._tls or True,
        )

    def _socks_connector(self) -> TCPConnector:
        from aiohttp_socks import ProxyConnector

        connector: TCPConnector = ProxyConnector.from_url(
            self._socks,
            rdns=True,
            limit=self._outbound.max_connections,
            limit_per_host=self._outbound.max_per_host,
            keepalive_timeout=60.0,
            ssl=self._tls or True,
        )
        return connector


def _parsed(address: str) -> URL:
    """The URL exactly as given when it is clean, so that a signed path stays what was signed; else quoted."""
    try:
        url = URL(address, encoded=address.isascii() and address.isprintable() and " " not in address)
        if url.scheme in ("http", "https") and url.raw_host:
            return url
    except ValueError:
        pass
    raise Unsendable("The address is not a valid http or https URL")


def _proxies(given: Secret | None) -> tuple[str | None, str | None]:
    """(SOCKS proxy, HTTP proxy), at most one of them set; a user and a password may be in it."""
    proxy = given.reveal() if given else ""
    if not proxy:
        return None, None
    scheme, host = urlsplit(proxy).scheme.lower(), urlsplit(proxy).hostname
    if host and scheme in ("http", "https"):
        return None, proxy
    if host and scheme in ("socks4", "socks5", "socks5h"):
        return proxy.replace("socks5h://", "socks5://", 1), None
    raise ConfigError(
        "outbound.proxy: expected http://, https://, socks4://, socks5:// or socks5h:// and a host"
    )


def _trust(out: Outbound) -> ssl.SSLContext | None:
    """None: aiohttp's default context. ``ca_certs`` is trusted beside the system's authorities."""
    if not (out.ca_certs or out.client_cert):
        return None
    context = ssl.create_default_context()
    setting = "outbound.ca_certs"
    try:
        if out.ca_certs:
            _load_authorities(context, out.ca_certs)
        setting = "outbound.client_cert"
        if out.client_cert:
            context.load_cert_chain(out.client_cert, out.client_key)
    except OSError as bad:
        raise ConfigError(f"{setting}: cannot be used: {bad.strerror or type(bad).__name__}") from None
    return context


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except IsADirectoryError:
        context.load_verify_locations(capath=path)


class NoProxy:
    """``NO_PROXY``: hosts, ``.suffixes``, addresses, networks, each maybe with ``:port``; ``*`` is everything."""

    def __init__(self, text: str) -> None:
        self._entries = [
            entry.strip().lower() for entry in text.replace(" ", ",").split(",") if entry.strip()
        ]

    def covers(self, host: str, port: int | None) -> bool:
        host = host.strip("[]").lower()
        return any(_covers(entry, host, port) for entry in self._entries)


def _covers(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and ":" not in name:
        if int(number) != port:
            return False
        entry = name
    address = literal(host)
    if address is not None:
        try:
            return _within(address, [ipaddress.ip_network(entry.strip("[]"), strict=False)])
        except ValueError:
            return False
    suffix = entry.removeprefix("*").removeprefix(".")
    return host == suffix or host.endswith(f".{suffix}")


def rebased(url: str, base: str) -> str:
    """``url`` with scheme, host and port of ``base``; a path of ``base`` goes in front."""
    old, new = urlsplit(url), urlsplit(base)
    return old._replace(scheme=new.scheme, netloc=new.netloc, path=new.path.rstrip("/") + old.path).geturl()


def given_by_user(endpoint: Endpoint, url: str) -> bool:
    """Whether the address comes from a URL in the endpoint's settings."""
    origin = _origin(url)
    return any(
        isinstance(value, str) and "://" in value and _origin(value) == origin
        for value in endpoint.settings.values()
    )


def _origin(text: str) -> tuple[str, str] | None:
    """Scheme and host of a URL; any setting may hold what looks like one and is none."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return parts.scheme.lower(), parts.netloc.lower()
