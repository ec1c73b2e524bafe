"""URIs of stores: without their passwords, to show them, and with a driver, for SQLAlchemy. Standard library only."""

from __future__ import annotations

import re


def with_psycopg2(uri: str) -> str:
    """Return a URI of PostgreSQL with its driver named, since SQLAlchemy's default depends on its version.

    >>> with_psycopg2("postgresql://me@host/runs")
    'postgresql+psycopg2://me@host/runs'
    """
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)


def server_uri(typed: str) -> str:
    """Return the address of an MLflow server from that of one of its pages, as browsers show it; others unchanged.

    >>> server_uri("http://127.0.0.1:5000/#/experiments/1")
    'http://127.0.0.1:5000'
    """
    return typed.partition("#")[0].rstrip("/") if typed.startswith(("http://", "https://")) else typed


def without_password(text: str) -> str:
    """Return a text in which ``***`` replaces the passwords of URIs.

    >>> without_password("postgresql://me:secret@host/runs")
    'postgresql://me:***@host/runs'
    """
    # Up to the last @: a password may contain characters that should have been quoted.
    text = re.sub(r"((?:[a-z][a-z0-9+.-]*://)?[^/?#\s:@]*):(?!//)\S*@", r"\1:***@", text, flags=re.IGNORECASE)
    text = text.replace("postgresql+psycopg2://", "postgresql://")
    return re.sub(r"([?&](?:ssl)?password=)[^&#\s]*", r"\1***", text, flags=re.IGNORECASE)
