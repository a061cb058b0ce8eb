"""What goes wrong between us and a provider's answer, in our own words: no URL, no header, no library text in it."""

import errno
import os
import ssl

import aiohttp


class Unreachable(Exception):
    """No answer, or not all of it: refused, reset, closed, silent. Another attempt may help."""


class UnknownHost(Unreachable):
    """The host's name does not resolve."""


class Unsendable(Exception):
    """A request that HTTP cannot carry: a bad address, a line break in a header."""


class TooLarge(Exception):
    """An answer above ``outbound.max_response_mb``."""


def described(failure: BaseException) -> Exception:
    """An error of the HTTP client as one of ours."""
    if isinstance(failure, aiohttp.ClientConnectorDNSError):
        return UnknownHost("The host is unknown")
    if isinstance(failure, aiohttp.ClientConnectorCertificateError):
        return Unreachable(f"The server's certificate is not accepted: {_tls(failure.certificate_error)}")
    if isinstance(failure, aiohttp.ClientSSLError):
        return Unreachable(f"The TLS handshake failed: {_tls(failure.os_error)}")
    if isinstance(failure, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return Unreachable("The proxy did not connect")
    if isinstance(failure, aiohttp.InvalidURL):
        return Unsendable("The address is not a valid http or https URL")
    if isinstance(failure, aiohttp.ConnectionTimeoutError):
        return Unreachable("The connection could not be made in time")
    if isinstance(failure, aiohttp.ServerTimeoutError):
        return Unreachable("The server fell silent")
    if isinstance(failure, aiohttp.ServerDisconnectedError):
        return Unreachable("The server closed the connection without an answer")
    if isinstance(failure, aiohttp.ClientPayloadError):
        return Unreachable("The connection ended before the answer was complete")
    if isinstance(failure, aiohttp.ClientResponseError):
        return Unreachable("The server's answer is not valid HTTP")
    if isinstance(failure, OSError):
        return Unreachable(_system(failure))
    return Unreachable(f"The connection failed ({type(failure).__name__})")


def _system(failure: OSError) -> str:
    """``Connection refused`` and its like."""
    number = failure.errno
    if number is None or number not in errno.errorcode:
        return "The connection failed"
    return os.strerror(number)


def _tls(failure: BaseException) -> str:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return failure.verify_message
    if isinstance(failure, ssl.SSLError):
        return failure.reason or "unknown reason"
    return type(failure).__name__
