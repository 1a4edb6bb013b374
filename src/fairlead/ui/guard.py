"""Who may read the page: only who has its address, which holds a secret, and asks as that page does.

The secret is the first part of every path, not a cookie: cookies of 127.0.0.1 go to servers on all its ports.  The
``Host`` header must name this server, so that no other site's name can be made to point here (DNS rebinding); an
``Origin`` must be our own, and what is sent to us must be JSON, which no other site's page can send without asking
first (Fetch standard, CORS protocol; we answer no such question).
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_POLICY = (
    "default-src 'none'; script-src 'self' {inline}; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def new_token() -> str:
    """A secret of 192 bits that can stand in a path."""
    return secrets.token_urlsafe(24)


def guard(token: str, port: Callable[[], int]) -> Any:
    """The middleware that refuses everybody else; `port` tells which one we listen on."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = {f"127.0.0.1:{port()}", f"localhost:{port()}"}
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if host not in hosts:
            return _refused("this address is not the page's own")
        if origin is not None and origin != f"http://{host}":
            return _refused("only the page itself may ask")
        given = request.match_info.get("token", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            return _refused("the address has no valid token: take it from where fairlead ui was started")
        if request.method == "POST" and request.content_type != "application/json":
            return _refused("only JSON is taken")
        return await handler(request)

    return check


def headers(page: bytes) -> dict[str, str]:
    """For every answer: nothing is loaded from elsewhere, shown in another page, kept in a cache, or told to others.

    Of scripts that stand in a page only that of this one runs, known by its hash (Content Security Policy Level 3).
    """
    digests = (b64encode(sha256(script).digest()).decode() for script in _INLINE.findall(page))
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY.format(inline=" ".join(f"'sha256-{one}'" for one in digests)),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _refused(why: str) -> web.Response:
    return web.Response(status=403, text=f"fairlead ui: {why}\n")
