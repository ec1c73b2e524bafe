"""What the contract tests share."""

import pytest

pytest.register_assert_rewrite("sweeps.testing")


@pytest.fixture(autouse=True)
def on_one_thread(one_thread: None) -> None:
    """Every contract that trains does so on one thread."""
