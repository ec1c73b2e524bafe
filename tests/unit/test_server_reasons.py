"""Why an MLflow server could not be used, in one line."""

import logging

import pytest

import analysis
from analysis.store import mlflow_internals
from resnet_core.server_errors import server_reason
from sweeps.errors import reason_of


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Max retries exceeded with url: / (Caused by ProxyError('Unable to connect to proxy'))", "NO_PROXY"),
        ("Max retries exceeded (Caused by SSLError(CERTIFICATE_VERIFY_FAILED))", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        ("Max retries exceeded with url: / (Caused by NewConnectionError)", "no MLflow server answers there; start"),
        ("failed with timeout exception HTTPConnectionPool: Read timed out.", "MLFLOW_HTTP_REQUEST_TIMEOUT"),
        ("too many 500 error responses", "its own log says why"),
        ("failed with error code 403 != 200. Response body: '<html>'", "MLFLOW_TRACKING_USERNAME"),
        ("failed with error code 404 != 200. Response body: '<html>\n<h1>'", "http://HOST:PORT"),
        ("failed with error code 413 != 200. Response body: '<html>'", "does not take the request (error 413)"),
        ("failed with error code 403 != 200. Response body: 'Invalid Host header - possible DNS'", "--allowed-hosts"),
        (
            "Max retries exceeded (Caused by ResponseError('too many 429 error responses'))",
            "too much to do (error 429)",
        ),
        ("Max retries exceeded (Caused by ResponseError('too many 503 error responses'))", "does not reach it"),
        ("Max retries exceeded (Caused by NameResolutionError(\"Failed to resolve 'x'\"))", "no host of this name"),
        ("Max retries exceeded (Caused by SSLError('[SSL: WRONG_VERSION_NUMBER]'))", "does not speak https"),
        ("Max retries exceeded (Caused by ProtocolError('Connection aborted.'))", "ended the connection"),
        ("failed with exception Missing dependencies for SOCKS support.", "pip install pysocks"),
        ("ENDPOINT_NOT_FOUND: no such", "may be too old"),
    ],
)
def test_the_reason_is_named_for_writers_and_readers(said, reason):
    for text in (reason_of(OSError(said)), mlflow_internals.reason_of(OSError(said))):
        assert reason in text
        assert "<html>" not in text
        assert "\n" not in text


@pytest.mark.parametrize("answer", ["failed with error code 403 != 200", "too many 503 error responses", "valid JSON"])
def test_a_proxy_that_may_have_answered_is_named_where_there_is_one(answer, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert "NO_PROXY" not in server_reason(answer)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert server_reason(answer).endswith(
        "if the proxy of this environment answered instead, name the server's host in NO_PROXY"
    )


def test_a_server_that_is_down_is_said_once(caplog):
    caplog.set_level(logging.WARNING, "urllib3")
    with pytest.raises(analysis.StoreError, match="no MLflow server answers there; start it, or name another store"):
        analysis.load("http://127.0.0.1:1", "any")
    assert caplog.messages == []
