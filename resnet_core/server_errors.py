"""Why an MLflow server could not be used, from the texts of MLflow's errors: it has no classes for the reasons.

For what writes to a server and for what reads from it. Standard library only.
"""

from __future__ import annotations

_PARTS = {
    (
        "Read timed out",
        "timeout exception",
    ): "the server did not answer in time (MLFLOW_HTTP_REQUEST_TIMEOUT); try again",
    ("500 error responses",): "the server failed at it (error 500); its own log says why",
    ("ProxyError", "Unable to connect to proxy"): (
        "the proxy of this environment does not let it through; name the server's host in NO_PROXY"
    ),
    ("CERTIFICATE_VERIFY_FAILED",): "the server's certificate is not trusted; see MLFLOW_TRACKING_SERVER_CERT_PATH",
    ("Max retries exceeded", "Connection refused"): "no MLflow server answers there; start it, or name another store",
    ("error code 401", "error code 403"): (
        "the server refuses the user or the password; see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    ),
    ("error code 404", "valid JSON"): "what answers there is no MLflow server; give its address as http://HOST:PORT",
}
"""Each reason with the texts of which an error has one; the first that fits counts."""


def server_reason(said: str) -> str:
    """Return why an MLflow server could not be used; empty if the text of an error does not say.

    >>> server_reason("API request failed with error code 401 != 200")
    'the server refuses the user or the password; see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD'
    """
    return next((reason for texts, reason in _PARTS.items() if any(text in said for text in texts)), "")
