"""What tests of all kinds share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread: small tensors are slower on many, and tests run beside each other."""
    import torch  # takes seconds, and most tests do without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
