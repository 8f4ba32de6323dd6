"""What stands between us and a real MLflow server, and makes the trouble that servers and networks
make.
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

TROUBLES = ("answers 500", "hangs", "hangs up", "loses answers")


class Proxy:
    """Context manager: passes requests on to a local server while ``trouble`` is empty."""

    def __init__(self, port: int) -> None:
        self.trouble, self.met, self._over = "", 0, threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def pass_on(self) -> None:
                proxy._answer(self, port)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def begin(self, trouble: str) -> None:
        """Make this trouble from now on."""
        self.trouble, self.met = trouble, 0
        self._over.clear()

    def end(self) -> None:
        """Make none any more."""
        self.trouble = ""
        self._over.set()

    def _answer(self, request: BaseHTTPRequestHandler, port: int) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        trouble = self.trouble
        self.met += bool(trouble)
        if trouble == "hangs":
            self._over.wait(60)
        if trouble == "answers 500":
            return _send(request, 500, b"<html>Internal Server Error</html>")
        if trouble in ("hangs", "hangs up"):
            request.close_connection = True
            return None
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        server.request(request.command, request.path, body, dict(request.headers))
        answer = server.getresponse()
        content = answer.read()
        server.close()
        if trouble == "loses answers":  # what was asked for was done
            request.close_connection = True
            return None
        return _send(
            request, answer.status, content, answer.headers.get("Content-Type", "application/json")
        )

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._server.shutdown()
        self._server.server_close()


def _send(
    request: BaseHTTPRequestHandler, status: int, content: bytes, kind: str = "text/html"
) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)
