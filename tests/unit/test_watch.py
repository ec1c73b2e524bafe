"""The server of `sweeps watch`: when a page is made, and to whom it is given."""

import gzip
import http.client
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sweeps.errors import InputError
from sweeps.inspection.watch import Renewed, WatchServer

LONG = 60.0  # seconds, for what hangs


class Page:
    """A page that notes how often it was made."""

    def __init__(self) -> None:
        self.made, self.stamp, self.now, self.error = 0, 0, 0.0, False
        self.same = False
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.renewed = Renewed(lambda: self.stamp, self.make, lambda: self.now)

    def make(self, version: str) -> str | None:
        self.begun.set()
        assert self.go_on.wait(LONG)
        if self.error:
            raise ValueError("no such <b>column</b>")
        self.made += 1
        return None if self.same else f"<p>page {self.made} of {version} λ"

    def get(self) -> str:
        return self.renewed.get().body.decode().partition(" of ")[0]


@pytest.fixture
def page() -> Page:
    return Page()


def test_a_page_is_made_when_somebody_asks_for_it(page):
    assert page.made == 0
    assert page.get() == "<p>page 1"


def test_a_page_is_made_anew_where_its_source_has_changed(page):
    page.get()
    page.now = 3.0
    assert page.get() == "<p>page 1"
    page.stamp, page.now = 1, 6.0
    assert page.get() == "<p>page 2"


def test_a_page_is_not_made_more_often_than_every_few_seconds(page):
    page.get()
    page.stamp, page.now = 1, 1.9
    assert page.get() == "<p>page 1"
    page.now = 2.1
    assert page.get() == "<p>page 2"


def test_a_page_that_takes_long_is_made_more_seldom(page, monkeypatch):
    spent = iter((0.0, 0.0, 10.0, 10.5))
    monkeypatch.setattr("sweeps.inspection.watch.time.thread_time", lambda: next(spent))
    page.get()
    page.stamp, page.now = 1, 2.1
    assert page.get() == "<p>page 2"
    page.stamp, page.now = 2, 2.1 + 4.9  # half a second of computing, of which a tenth of a core has five
    assert page.get() == "<p>page 2"


def test_its_version_stays_where_it_would_be_the_same(page):
    version = page.renewed.get().version
    page.stamp, page.now, page.same = 1, 3.0, True
    assert page.renewed.get().version == version
    assert page.made == 2


def test_two_servers_give_their_pages_other_versions():
    assert Page().renewed.get().version != Page().renewed.get().version


def test_many_who_ask_at_once_have_it_made_once(page):
    page.go_on.clear()
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(page.get) for _ in range(20)]
        assert page.begun.wait(LONG)
        page.go_on.set()
        assert {one.result(LONG) for one in asked} == {"<p>page 1"}
    assert page.made == 1


def test_while_it_is_made_others_are_given_the_page_as_it_was(page):
    page.get()
    page.stamp, page.now = 1, 3.0
    page.begun.clear()
    page.go_on.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(page.get)
        assert page.begun.wait(LONG)
        assert page.renewed.is_being_made()
        assert page.get() == "<p>page 1"
        page.go_on.set()
        assert first.result(LONG) == "<p>page 2"


def test_what_its_making_raises_is_raised_until_it_succeeds(page):
    page.error = True
    for _ in range(2):
        with pytest.raises(ValueError, match="no such"):
            page.get()
    page.error = False
    assert page.get() == "<p>page 1"


@pytest.fixture
def server(page) -> Iterator[WatchServer]:
    serving = WatchServer({"/": page.renewed, "/report": Page().renewed}, 0)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    thread.join(LONG)
    serving.server_close()


Ask = Callable[..., tuple[http.client.HTTPResponse, bytes]]


@pytest.fixture
def ask(server) -> Ask:
    def ask(path: str = "/", method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=LONG)
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    return ask


def test_the_page_is_served(ask):
    answer, body = ask()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.decode().startswith("<p>page 1 of ")
    assert body.decode().endswith(" λ")


def test_it_is_zipped_for_who_can_take_that(ask):
    answer, body = ask(Accept_Encoding="gzip, deflate")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).startswith(b"<p>page 1")


def test_who_knows_the_version_is_sent_nothing(ask, page):
    version = ask()[0].headers["ETag"]
    answer, body = ask(If_None_Match=version)
    assert (answer.status, body) == (304, b"")
    page.stamp, page.now = 1, 3.0
    answer, body = ask(If_None_Match=version)
    assert (answer.status, answer.headers["ETag"] != version) == (200, True)


def test_head_is_answered_without_a_body(ask):
    answer, body = ask(method="HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(ask, page, method):
    answer, _ = ask(method=method)
    assert (answer.status, answer.headers["Allow"], page.made) == (405, "GET, HEAD", 0)


@pytest.mark.parametrize("path", ["/x", "/report/", "/../etc/passwd", "/%2e%2e/", "/favicon.ico", "*"])
def test_other_paths_are_not_found(ask, path):
    answer, body = ask(path)
    assert answer.status == 404
    assert body == b"404 Not Found: there is / and /report\n"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5001", "127.0.0.1.evil.example", "localhost.evil.example", "[", "::1:80", ""]
)
def test_a_page_of_another_name_is_refused(ask, page, host):
    answer, body = ask(Host=host)
    assert (answer.status, page.made) == (403, 0)
    assert b"evil" not in body


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:6001", "localhost", "localhost:6001", "LOCALHOST:80"])
def test_this_machine_may_be_named_with_any_port(ask, host):
    assert ask(Host=host)[0].status == 200


@pytest.mark.parametrize("path", ["/", "/none"])
def test_other_sites_are_told_nothing(ask, path):
    answer, _ = ask(path, Origin="http://evil.example")
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_a_page_that_cannot_be_made_says_why(ask, page, caplog):
    page.error = True
    answer, body = ask()
    assert (answer.status, answer.headers["Content-Type"]) == (500, "text/plain; charset=utf-8")
    assert body == b"500 Internal Server Error: the page could not be made: no such <b>column</b>\n"
    assert "no such" in caplog.text


def test_clients_that_say_nothing_hold_nobody_up(server, ask):
    silent = [socket.create_connection(server.server_address[:2]) for _ in range(20)]
    silent[0].sendall(b"GET / HT")
    assert ask()[0].status == 200
    for client in silent:
        client.close()


def test_a_client_that_leaves_is_not_complained_of(server, ask, caplog):
    with socket.create_connection(server.server_address[:2]) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # closing it sends a reset
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert ask()[0].status == 200
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_requests_are_logged_only_where_that_is_asked_for(ask, caplog):
    with caplog.at_level(logging.INFO, "sweeps"):
        ask()
        ask("/none")
    assert caplog.text == ""
    with caplog.at_level(logging.DEBUG, "sweeps"):
        ask("/none")
    assert "GET /none" in caplog.text


def test_a_port_that_is_taken_is_named(server):
    port = server.server_address[1]
    with pytest.raises(InputError, match=f"^port {port} of 127.0.0.1 cannot be had: Address already in use"):
        WatchServer({}, port)


STUCK = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from sweeps.inspection.watch import Renewed, WatchServer

def make(version):
    with ThreadPoolExecutor(1) as threads:  # which Python's end waits for, as when a server does not answer
        threads.submit(asked.set)
        threads.submit(threading.Event().wait)

asked = threading.Event()
server = WatchServer({"/": Renewed(lambda: None, make)}, 0)
threading.Thread(target=lambda: (asked.wait(), print("stuck", flush=True)), daemon=True).start()
print(server.server_address[1], flush=True)
server.serve_until_interrupted()
"""


def test_ctrl_c_ends_it_at_once_also_while_a_page_is_made():
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert process.stdout.readline() == "stuck\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG) == 0


def test_it_listens_on_this_machine_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
