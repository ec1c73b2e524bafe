"""URIs of stores: without their passwords, to show them, and with a driver, for SQLAlchemy. Standard library only."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def with_psycopg2(uri: str) -> str:
    """Return a URI of PostgreSQL with its driver named, since SQLAlchemy's default depends on its version.

    >>> with_psycopg2("postgresql://me@host/runs")
    'postgresql+psycopg2://me@host/runs'
    """
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)


def server_uri(typed: str) -> str:
    """Return the address of an MLflow server from that of one of its pages, as browsers show it; others unchanged.

    Raises:
        ValueError: it is no address of a server; the message says what was expected.

    >>> server_uri("HTTP://127.0.0.1:5000/#/experiments/1")
    'http://127.0.0.1:5000'
    """
    scheme, separator, rest = typed.partition("://")
    if scheme.lower() not in ("http", "https") or not separator:
        return typed
    uri = re.split(r"[?#]", f"{scheme.lower()}://{rest}", maxsplit=1)[0].rstrip("/")
    try:
        parts = urlsplit(uri)
        usable = bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", uri)
    except ValueError:  # a port that is none
        usable = False
    if not usable:
        raise ValueError("expected http://HOST:PORT")
    return uri


def without_password(text: str) -> str:
    """Return a text in which ``***`` replaces the passwords of URIs.

    >>> without_password("postgresql://me:secret@host/runs")
    'postgresql://me:***@host/runs'
    """
    # Up to the last @: a password may contain characters that should have been quoted.
    text = re.sub(r"((?:[a-z][a-z0-9+.-]*://)?[^/?#\s:@]*):(?!//)\S*@", r"\1:***@", text, flags=re.IGNORECASE)
    text = text.replace("postgresql+psycopg2://", "postgresql://")
    return re.sub(r"([?&](?:ssl)?password=)[^&#\s]*", r"\1***", text, flags=re.IGNORECASE)
