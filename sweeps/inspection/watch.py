"""The page of a running study on 127.0.0.1, for a browser that asks for it again every few seconds. It only reads."""

from __future__ import annotations

import gzip
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from sweeps.errors import SweepError
from sweeps.home import Home
from sweeps.inspection.local_server import HOST, bound_socket
from sweeps.inspection.report import build_live, build_report
from sweeps.inspection.watched import Seen, Watched

_log = logging.getLogger(__name__)
_LOCAL = {HOST, "localhost"}
"""Names in the Host header under which this machine is meant: a page of another site that has its own name lead here
(DNS rebinding) sends its own. The port may be another one, that of a tunnel."""
_LEAST, _MOST, _SHARE = 2.0, 60.0, 0.1  # seconds between two pages, and the share of a core that making them may take
_SLOW = 10.0  # seconds after which a client that neither sends nor takes anything is given up
_CONNECTIONS = 128  # at a time; more are closed at once
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Document:
    """A page as it is sent.

    Attributes:
        version: its ETag.
        body: its bytes.
        zipped: its bytes, gzipped.
    """

    version: str
    body: bytes
    zipped: bytes


class Renewed:
    """A page that is made anew when somebody asks for it, no more often than its costs allow, and if it has changed.

    However many ask, one thread makes it. Meanwhile, the others are given the page as it was before.

    Args:
        stamp: returns something that is another once the page may have changed; it must be cheap.
        make: makes the page, from the version that it will have; None where the page would be the same.
        clock: seconds that pass.
    """

    def __init__(
        self,
        stamp: Callable[[], object],
        make: Callable[[str], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stamp, self._make, self._clock = stamp, make, clock
        self._making = threading.Lock()
        self._document: Document | None = None
        self._stamped = object()  # like no stamp
        self._due = 0.0
        self._prefix, self._count = secrets.token_hex(4), 0  # a server that starts again has other versions

    def get(self) -> Document:
        """Return the page; what its making raises is raised."""
        # Only the first asker has nothing to show meanwhile.
        if self._making.acquire(blocking=self._document is None):
            try:
                if self._document is None or self._clock() >= self._due:
                    self._renew()
            finally:
                self._making.release()
        assert self._document is not None
        return self._document

    def is_being_made(self) -> bool:
        """Return whether a thread makes the page now."""
        return self._making.locked()

    def _renew(self) -> None:
        stamped = self._stamp()
        self._due = self._clock() + _LEAST
        if stamped == self._stamped:
            return
        begun, first = time.thread_time(), self._document is None
        version = f'"{self._prefix}-{self._count + 1}"'
        made = self._make(version.strip('"'))
        self._stamped = stamped  # of before it was made: what came meanwhile makes it anew
        if made is not None:
            self._count += 1
            body = made.encode()
            self._document = Document(version, body, gzip.compress(body, 1))
        spent = 0.0 if first else time.thread_time() - begun  # the first one has also loaded what draws
        self._due = self._clock() + min(max(_LEAST, spent / _SHARE), _MOST)


class WatchServer(ThreadingHTTPServer):
    """Serves pages by path on 127.0.0.1.

    Args:
        pages: the pages by path.
        port: the port; 0 takes one that is free.
        debug: log every request.

    Attributes:
        address: where it answers.

    Raises:
        InputError: the port cannot be had.
    """

    daemon_threads = True  # Ctrl-C ends it at once, whoever is being answered
    block_on_close = False
    request_queue_size = _CONNECTIONS

    def __init__(self, pages: dict[str, Renewed], port: int, *, debug: bool = False) -> None:
        super().__init__((HOST, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound_socket(port)
        self.server_address = self.socket.getsockname()
        self.pages, self.debug = pages, debug
        self.address = f"http://{HOST}:{self.server_address[1]}"
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self.server_activate()

    def serve_until_interrupted(self) -> None:
        """Serve until Ctrl-C, which ends it at once, also while a page is being made."""
        try:
            with suppress(KeyboardInterrupt):
                self.serve_forever()
        finally:
            self.server_close()
            if any(page.is_being_made() for page in self.pages.values()):
                # Reading from a server that does not answer would hold Python's end up.
                sys.stdout.flush()
                os._exit(0)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a request in a thread of its own, unless there are too many already."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See socketserver.ThreadingMixIn."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log what went wrong; that a client has gone is nothing to tell."""
        error = sys.exc_info()[1]
        level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR
        _log.log(level, "a request was not answered: %s", error, exc_info=self.debug)


class _Handler(BaseHTTPRequestHandler):
    """Answers a request. It speaks HTTP/1.0: the connection is closed then, so an idle browser holds no thread."""

    server: WatchServer
    server_version, sys_version = "sweeps", ""
    timeout = _SLOW

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Return what answers a request: ``do_GET`` and so on, for the methods that requests have."""
        if name in ("do_GET", "do_HEAD"):
            return self._answer
        if name.startswith("do_"):
            status = HTTPStatus.METHOD_NOT_ALLOWED
            return lambda: self._refuse(status, "this server is only looked at", Allow="GET, HEAD")
        raise AttributeError(name)

    def _answer(self) -> None:
        page = self.server.pages.get(urlsplit(self.path).path)
        if not self._is_local():
            self._refuse(HTTPStatus.FORBIDDEN, "expected the name 127.0.0.1 or localhost in the address")
        elif page is None:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is {' and '.join(self.server.pages)}")
        else:
            try:
                document = page.get()
            except Exception as error:
                _log.error("the page could not be made: %s", error, exc_info=self.server.debug)
                self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"the page could not be made: {error}")
            else:
                self._send(document)

    def _is_local(self) -> bool:
        """Return whether the request names this machine, once."""
        names = self.headers.get_all("Host", [])
        with suppress(ValueError):
            return len(names) == 1 and urlsplit(f"//{names[0]}").hostname in _LOCAL
        return False

    def _send(self, document: Document) -> None:
        known = document.version in self.headers.get("If-None-Match", "")
        zipped = "gzip" in self.headers.get("Accept-Encoding", "")
        body = b"" if known else document.zipped if zipped else document.body
        self.send_response(HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK)
        headers = {"ETag": document.version, "Vary": "Accept-Encoding", **_HEADERS}
        if not known:
            headers |= {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
            headers |= {"Content-Encoding": "gzip"} if zipped else {}
        self._finish(headers, body)

    def _refuse(self, status: HTTPStatus, why: str, **headers: str) -> None:
        body = f"{status.value} {status.phrase}: {why}\n".encode()
        self.send_response(status)
        headers |= {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        self._finish({**headers, **_HEADERS}, body)

    def _finish(self, headers: dict[str, str], body: bytes) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request where that is asked for."""
        _log.debug(format, *args)


def watch_pages(home: Home, name: str) -> dict[str, Renewed]:
    """Return the pages of a study by path: ``/``, which is renewed, and ``/report``.

    Raises:
        SweepError: there is no such study, or it cannot be read.
    """
    watched, reading = Watched(home, name), threading.Lock()
    shown: Seen | None = None

    def page(version: str) -> str | None:
        nonlocal shown
        with reading:
            before, shown = shown, watched.read()
            same = before is not None and before.is_same(shown)
            return None if same else build_live(home, name, shown.study, shown.standing, version)

    def report(_version: str) -> str:
        with reading:
            study = watched.read().study
            if study is None:
                raise SweepError(f"no trial of study {name!r} is in MLflow's store yet")
            return build_report(home, study)

    return {"/": Renewed(watched.stamp, page), "/report": Renewed(watched.stamp, report)}
