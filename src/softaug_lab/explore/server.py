"""Server: the page and the answers of an Explorer over HTTP, for this machine alone.

It listens on the loopback address. Other users of the machine can reach that too, so every path
begins with a secret that only the printed address holds; and a web page of another host whose name
is made to point here (DNS rebinding) is told apart by the Host header.
"""

import json
import secrets
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from inspect import signature
from threading import Lock
from typing import Any, cast
from urllib.parse import urlsplit

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.explore.explorer import Explorer

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost", "::1")  # of a browser here, or at the other end of a tunnel
FILES = {"": "index.html", "explore.css": "explore.css", "explore.js": "explore.js"}
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
QUESTIONS = ("about", "augment", "hide", "cut")  # methods of Explorer
LONGEST = 65_536  # bytes of a request's body
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serve an Explorer on 127.0.0.1; `url` is the address to open, `serve_forever` the loop.

    port: 0 for any free one. Raises UsageError for a port that cannot be used.
    """

    def __init__(self, explorer: Explorer, port: int = 0) -> None:
        self.explorer = explorer
        self.secret = secrets.token_urlsafe(12)
        self.lock = Lock()  # answers are computed one at a time: each uses all cores
        if not 0 <= port <= 65_535:
            raise UsageError(f"--port must be 0 to 65535, got {port}")
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            raise UsageError(
                f"--port {port} cannot be used ({error.strerror}); leave it out for a free one"
            ) from error

    @property
    def url(self) -> str:
        """The address of the page, with its secret."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/{self.secret}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what http.server prints, but not for a browser that closed its connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answer one connection of a browser."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "softaug", ""

    def do_GET(self) -> None:
        """Send a file of the page."""
        name = self._asked()
        if name is None:
            return
        if name not in FILES:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "no such file")
            return
        file = files("softaug_lab.explore").joinpath("page", FILES[name])
        ending = FILES[name][FILES[name].index(".") :]
        self._send(HTTPStatus.OK, KINDS[ending], file.read_text(encoding="utf-8"))

    def do_POST(self) -> None:
        """Answer a question, JSON for JSON; an error is one line of text in `error`."""
        name = self._asked()
        if name is None:
            return
        status = HTTPStatus.OK
        try:
            answer = _answer(self._server, name, self._body())
        except (SoftaugError, ValueError) as error:
            status, answer = HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except Exception as error:
            reason = f"{type(error).__name__}: {one_line(error)}"
            status, answer = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": reason}
        self._send(status, "application/json", json.dumps(answer, allow_nan=False))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  as http.server names it
        """Print nothing for each request."""

    @property
    def _server(self) -> Server:
        return cast(Server, self.server)

    def _asked(self) -> str | None:
        """The path below the secret; None, and the refusal is sent, for whom nothing is served."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        _, secret, *below = self.path.split("/", 2)
        known = secrets.compare_digest(secret.encode(), self._server.secret.encode())
        if host in HOSTS and known and below:
            return below[0]
        self.close_connection = True  # a body may follow, which nobody reads
        message = "open the address that softaug explore printed, with its last slash"
        self._send(HTTPStatus.FORBIDDEN, "text/plain", message)
        return None

    def _body(self) -> dict[str, Any]:
        """Read the arguments of a question."""
        length = int(self.headers.get("Content-Length", -1))
        if not 0 <= length <= LONGEST:
            self.close_connection = True
            raise UsageError(f"expected a body of up to {LONGEST:,} bytes")
        content = self.rfile.read(length)
        # A page of another host cannot send this type without asking first, and is refused then.
        if self.headers.get_content_type() != "application/json":
            raise UsageError("expected JSON")
        body = json.loads(content)
        if not isinstance(body, dict):
            raise UsageError("expected a JSON object")
        return body

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode(errors="backslashreplace")
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _answer(server: Server, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a method of the Explorer; raises UsageError for what it does not take."""
    if name not in QUESTIONS:
        raise UsageError(f"unknown question {name!r}")
    method = getattr(server.explorer, name)
    try:
        signature(method).bind(**arguments)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from error
    with server.lock:
        answer: dict[str, Any] = method(**arguments)
    return answer
