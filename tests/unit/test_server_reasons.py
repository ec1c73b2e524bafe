"""Why an MLflow server could not be used, in one line."""

import pytest

from analysis.store import mlflow_internals
from sweeps.errors import reason_of


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Max retries exceeded with url: / (Caused by ProxyError('Unable to connect to proxy'))", "NO_PROXY"),
        ("Max retries exceeded (Caused by SSLError(CERTIFICATE_VERIFY_FAILED))", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        ("Max retries exceeded with url: / (Caused by NewConnectionError)", "no MLflow server answers there"),
        ("failed with error code 403 != 200. Response body: '<html>'", "MLFLOW_TRACKING_USERNAME"),
        ("failed with error code 404 != 200. Response body: '<html>\n<h1>'", "http://HOST:PORT"),
    ],
)
def test_the_reason_is_named_for_writers_and_readers(said, reason):
    for text in (reason_of(OSError(said)), mlflow_internals.reason_of(OSError(said))):
        assert reason in text
        assert "<html>" not in text
        assert "\n" not in text
