"""Who may speak with the page's server: the person who started it, from a page that it served.

    door = Door(new_token(), port=8765, host="127.0.0.1")
    app = Guard(app, door)

A random token in the opening address is exchanged for a cookie. `Host` must name this machine, so that
another site whose name is made to point here (DNS rebinding) reaches nothing; what changes something must
come from this page (`Origin`), so that another site cannot have the browser send it.
"""

import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
_LOCAL_NAMES = ("localhost", LOOPBACK, "::1")
_SAFE_METHODS = ("GET", "HEAD")
# Scripts and styles are files of ours. Attributes `style` are allowed, as figures have them, whose texts are
# escaped.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# A report has its script and style in itself; in a sandbox without an origin it reaches no page or cookie.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CLOSED = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>demask: closed</title>
<h1>This page is closed</h1><p>{}</p>
<p>Open the address that <code>demask ui</code> has printed in its terminal.
It ends in <code>?token=...</code> and changes each time that it is started. Your runs go on.</p></html>"""


def new_token() -> str:
    """256 random bits, for an address."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Door:
    """What opens the page.

    Attributes:
        token: in the opening address.
        port: listened at; cookies of other ports have other names.
        host: listened at.
    """

    token: str
    port: int
    host: str = LOOPBACK

    @property
    def cookie(self) -> str:
        """Its name."""
        return f"demask-ui-{self.port}"

    @property
    def address(self) -> str:
        """To open first."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        name = socket.gethostname() if self.host in ("0.0.0.0", "::") else name
        return f"http://{name}:{self.port}/?token={self.token}"

    def knows(self, word: str | None) -> bool:
        """Whether a word is the token; takes as long either way."""
        return word is not None and secrets.compare_digest(word.encode(), self.token.encode())

    def allows_host(self, host: str | None) -> bool:
        """Whether a header `Host` names this machine: by number, its own name, or as it was told to listen.

        A name that somebody else controls may point anywhere; a number cannot.
        """
        try:
            parts = urlsplit(f"//{host or ''}")
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        if name is None or parts.username is not None or parts.path or (port or 80) != self.port:
            return False
        if name in _LOCAL_NAMES:
            return True
        if self.host in _LOCAL_NAMES:
            return False
        return name in (self.host.lower(), socket.gethostname().lower()) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


class Guard:
    """Stands before the whole application, static files included.

    Args:
        app: that is guarded.
        door: what opens it.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":  # the application's own beginning and end; nothing else is spoken here
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._judge(scope, headers)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        await (answer or self._app)(scope, receive, send_guarded)

    def _judge(self, scope: Scope, headers: Headers) -> Response | None:
        """What to answer; None: the request may go on."""
        door, method = self._door, scope["method"]
        if not door.allows_host(headers.get("host")):
            return _refuse("Host names another machine: expected the address that this page was opened at")
        origin = headers.get("origin")
        own = f"http://{headers['host']}"
        if (origin is not None or method not in _SAFE_METHODS) and origin != own:
            return _refuse(f"Origin is {origin!r}, expected {own}: another page must not steer this one")
        if headers.get("sec-fetch-site") == "cross-site" and method not in _SAFE_METHODS:
            return _refuse("sent by another site")
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if given is not None and scope["path"] == "/" and method == "GET":
            return self._open(given[-1])
        if not door.knows(_read_cookies(headers).get(door.cookie)):
            return _refuse("No token was given.", page="text/html" in headers.get("accept", ""))
        return None

    def _open(self, word: str) -> Response:
        if not self._door.knows(word):
            return _refuse("The token in the address is not that of this server.", page=True)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self._door.cookie, self._door.token, httponly=True, samesite="strict", path="/")
        return answer


def _refuse(why: str, *, page: bool = False) -> Response:
    if page:
        return HTMLResponse(_CLOSED.format(why), status_code=403)
    return JSONResponse({"error": why}, status_code=403)


def _read_cookies(headers: Headers) -> Mapping[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}
