"""Why there was no connection, in words for whoever gave the URL. None of them tells an address."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

_CERTIFICATES: Final = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "nobody but itself vouches for it",
    19: "an authority vouches for it that is not known here",
    20: "its issuer is not known here, or the server does not send the certificates between",
    21: "its issuer is not known here, or the server does not send the certificates between",
    62: "it is for another name",
    64: "it is for another address",
}
"""By the codes of OpenSSL (X509_V_ERR_…)."""
_NUMBERS: Final = {
    errno.ECONNREFUSED: "the connection was refused",
    errno.ECONNRESET: "the connection was reset",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.ENETDOWN: "the network is down",
    errno.EADDRNOTAVAIL: "the host cannot be reached",
    errno.ETIMEDOUT: "nobody answered",
    errno.EMFILE: "this server has no file descriptors left",
    errno.ENFILE: "this server has no file descriptors left",
}
FORBIDDEN: Final = (
    "the URL leads to an address or a port that is not allowed; "
    "the operator can allow it with fetch.allow_cidrs or fetch.ports"
)


class NameNotFound(OSError):
    """A name could not be looked up; the text says why."""


class AddressForbidden(OSError):
    """The policy does not allow this address. The text names none: it may reach whoever gave the URL."""

    def __init__(self) -> None:
        super().__init__("its address is not allowed")


def describe_certificate_error(exc: ssl.SSLCertVerificationError) -> str:
    """What is wrong with a certificate."""
    return _CERTIFICATES.get(exc.verify_code, exc.verify_message)


def describe_cause(exc: OSError) -> str:
    """What went wrong while a connection was made."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is not to be trusted: {describe_certificate_error(exc)}"
    if isinstance(exc, ssl.SSLEOFError | ConnectionResetError):
        return "the connection was closed at once"
    if isinstance(exc, ssl.SSLError):
        wrong = exc.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "BAD_RECORD_TYPE")
        return (
            "it does not speak TLS there" if wrong else f"no TLS could be agreed on ({exc.reason or 'no reason given'})"
        )
    if isinstance(exc, NameNotFound | AddressForbidden):
        return str(exc)
    if isinstance(exc, TimeoutError) and exc.errno is None:
        return "it took too long"
    if isinstance(exc, socket.gaierror):
        return "its name could not be looked up just now" if exc.errno == socket.EAI_AGAIN else "its name is not known"
    return _NUMBERS.get(exc.errno or 0, "none of its addresses can be reached")
