"""Streams are one holder's at a time, whoever asks, and are used again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import torch

from resnet_core.streams import STREAMS_PER_DEVICE, Streams

GPU, OTHER, CPU = torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cpu")


@pytest.fixture
def streams() -> Streams:
    """Numbers stand for streams, which only a GPU has."""
    numbers = count()
    return Streams(lambda _device: next(numbers))  # type: ignore[arg-type,return-value]


def test_a_cpu_has_none(streams):
    with streams.leased(CPU) as stream:
        assert stream is None


def test_two_holders_have_two(streams):
    with streams.leased(GPU) as one, streams.leased(GPU) as other:
        assert one != other


def test_one_that_was_given_back_is_used_again(streams):
    with streams.leased(GPU) as one:
        pass
    with streams.leased(GPU) as other:
        assert one == other


def test_one_is_given_back_by_a_holder_that_fails(streams):
    with pytest.raises(KeyError), streams.leased(GPU) as one:
        raise KeyError
    with streams.leased(GPU) as other:
        assert one == other


def test_each_device_has_its_own(streams):
    with streams.leased(GPU) as one:
        pass
    with streams.leased(OTHER) as other:
        assert one != other


def test_more_than_torch_has_are_refused(streams):
    held = [streams.leased(GPU) for _ in range(STREAMS_PER_DEVICE)]
    for lease in held:
        lease.__enter__()
    with pytest.raises(RuntimeError, match=f"{STREAMS_PER_DEVICE} runs of this process train on cuda:0 already"):
        streams.leased(GPU).__enter__()


def test_a_thousand_leases_of_many_threads_never_share(streams):
    holders, shared = set(), []
    change = threading.Lock()

    def hold(_: int) -> None:
        with streams.leased(GPU) as stream:
            with change:
                if stream in holders:
                    shared.append(stream)
                holders.add(stream)
            with change:
                holders.remove(stream)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(1000)))
    assert shared == []
    with streams.leased(GPU) as stream:
        assert stream < 8
