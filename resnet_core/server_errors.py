"""Why an MLflow server could not be used, from the texts of MLflow's errors: it has no classes for the reasons.

For what writes to a server and for what reads from it. Standard library only.
"""

from __future__ import annotations

import re
import urllib.request

_STRANGER = "what answers there is no MLflow server; give its address as http://HOST:PORT"
_REFUSED = (
    "the server refuses the user or the password; see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN"
)
_GATEWAY = "what stands before the server does not reach it, or it is not ready (error {status}); see whether it runs"
_STATUS = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses")
_OF_STATUS = {
    401: _REFUSED,
    403: _REFUSED,
    404: _STRANGER,
    408: "the server did not answer in time (error 408); try again",
    429: "the server has too much to do (error 429); try again later",
    500: "the server failed at it (error 500); its own log says why",
    502: _GATEWAY,
    503: _GATEWAY,
    504: _GATEWAY,
}
_OTHER_STATUS = "the server does not take the request (error {status}); its own log says why"
_PARTS = {
    ("Invalid Host header",): (
        "the server does not answer to this name of its host; start it with --allowed-hosts, see `mlflow server --help`"
    ),
    (
        "Read timed out",
        "timeout exception",
    ): "the server did not answer in time (MLFLOW_HTTP_REQUEST_TIMEOUT); try again",
    ("ProxyError", "Unable to connect to proxy"): (
        "the proxy of this environment does not let it through; name the server's host, without its port, in NO_PROXY"
    ),
    ("support for SOCKS", "dependencies for SOCKS"): (
        "the proxy of this environment is a SOCKS proxy, which needs `pip install pysocks`; to go without it, name the "
        "server's host in NO_PROXY"
    ),
    ("CERTIFICATE_VERIFY_FAILED",): "the server's certificate is not trusted; see MLFLOW_TRACKING_SERVER_CERT_PATH",
    ("SSLError",): "what answers there does not speak https; give its address as http://HOST:PORT",
    ("NameResolutionError", "Failed to resolve"): "no host of this name is known; check the address",
    ("Connection aborted", "Connection broken"): (
        "what answers there ended the connection; it speaks https, is no MLflow server, or was stopped just now"
    ),
    ("Connection refused", "Max retries exceeded"): "no MLflow server answers there; start it, or name another store",
    ("valid JSON",): _STRANGER,
    ("Invalid url",): "its address, or the one of the proxy of this environment, cannot be used; see HTTP_PROXY",
    ("ENDPOINT_NOT_FOUND",): "the server does not know the request; its MLflow may be too old",
}
"""Each reason with the texts of which an error has one; the first that fits counts."""


def server_reason(said: str) -> str:
    """Return why an MLflow server could not be used; empty if the text of an error does not say.

    >>> server_reason("API request failed with error code 429 != 200")
    'the server has too much to do (error 429); try again later'
    """
    status = _STATUS.search(said)
    if status is None or "Invalid Host header" in said:
        found = next((reason for texts, reason in _PARTS.items() if any(text in said for text in texts)), "")
        return f"{found}{_or_proxy()}" if found == _STRANGER else found
    code = int(status[1] or status[2])
    return _OF_STATUS.get(code, _OTHER_STATUS).format(status=code) + _or_proxy()


def _or_proxy() -> str:
    """Return what to do where a proxy may have answered in the server's place; empty if the environment has none."""
    if not urllib.request.getproxies().keys() & {"http", "https", "all"}:
        return ""
    return "; if the proxy of this environment answered instead, name the server's host in NO_PROXY"
