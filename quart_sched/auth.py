"""Authentication for the REST API: Basic, Bearer, and the base class for schemes of your own."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from quart import request


class Authorization(dict[str, Any]):
    """What a request brought to authenticate itself; `auth_type` is the scheme in lower case."""

    def __init__(self, auth_type: str, **values: Any) -> None:
        super().__init__(**values)
        self.auth_type = auth_type


class HTTPAuth:
    """Subclass this for a scheme of your own; both methods run inside the request's context."""

    def get_authorization(self) -> Any:
        """Return an Authorization, or None where the request brings none; may be a coroutine function."""
        raise NotImplementedError(f"{type(self).__name__} has to define get_authorization")

    def get_authenticate_header(self) -> str | None:
        """Return the value of ``WWW-Authenticate`` in the 401 answer, or None for no such header."""
        return None


def get_authorization_header() -> tuple[bytes, bytes] | None:
    """Return the scheme, in lower case, and the credentials in the request's header; None where it has not both."""
    scheme, *credentials = request.headers.get("Authorization", "").encode("latin-1").split(None, 1) or [b""]
    return (scheme.lower(), credentials[0]) if credentials else None


def _credentials(scheme: str) -> str | None:
    given, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return credentials.strip() if given.lower() == scheme and credentials.strip() else None


class HTTPBasicAuth(HTTPAuth):
    """User name and password, RFC 7617. The Authorization has `username` and `password`."""

    www_authenticate_realm = "Authentication Required"

    def get_authorization(self) -> Authorization | None:
        credentials = _credentials("basic")
        if credentials is None:
            return None
        try:
            decoded = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError):
            return None
        try:
            text = decoded.decode("utf-8")
        except UnicodeDecodeError:
            text = decoded.decode("latin-1")
        username, colon, password = text.partition(":")
        return Authorization("basic", username=username, password=password) if colon else None

    def get_authenticate_header(self) -> str:
        return f'Basic realm="{self.www_authenticate_realm}", charset="UTF-8"'


class HTTPBearerAuth(HTTPAuth):
    """A bearer token, RFC 6750. The Authorization has `token`."""

    www_authenticate_realm = "Authentication Required"

    def get_authorization(self) -> Authorization | None:
        token = _credentials("bearer")
        return None if token is None else Authorization("bearer", token=token)

    def get_authenticate_header(self) -> str:
        return f'Bearer realm="{self.www_authenticate_realm}"'
