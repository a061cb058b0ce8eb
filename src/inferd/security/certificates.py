"""Names in client certificates that TLS has already verified (`ssl.SSLSocket.getpeercert`)."""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_ESCAPED = str.maketrans({char: f"\\{char}" for char in ',+"\\<>;'})


def names(certificate: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """What a mapping may call the holder, the most exact first: the whole subject, then its common name.

    Nothing once the certificate has run out: a connection may be older than that.
    """
    if _end(str(certificate.get("notAfter", ""))) <= now:
        return ()
    parts = [part for part in certificate.get("subject", ()) if part]
    common = [value for part in parts for kind, value in part if kind == "commonName"]
    return (subject(parts), *(common if len(common) == 1 else ()))


def subject(parts: list[tuple[tuple[str, str], ...]]) -> str:
    """RFC 4514: the most specific part first, ``CN=search,O=Example``."""
    return ",".join("+".join(f"{_SHORT.get(k, k)}={_escape(v)}" for k, v in part) for part in reversed(parts))


def _escape(value: str) -> str:
    text = value.translate(_ESCAPED).replace("\0", "\\00")
    if text[:1] in ("#", " "):
        text = f"\\{text}"
    if len(value) > 1 and value.endswith(" "):
        text = f"{text[:-1]}\\ "
    return text


@lru_cache(maxsize=1024)
def _end(moment: str) -> float:
    try:
        return float(ssl.cert_time_to_seconds(moment))
    except ValueError:
        return 0.0
