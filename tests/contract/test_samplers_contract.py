"""Every sampler that ships keeps to the contract. A new sampler gets a class here."""

from search_spaces.plugins import samplers
from sweeps.testing.samplers import SamplerContract


class TestTpe(SamplerContract):
    sampler = "tpe"


class TestGp(SamplerContract):
    sampler = "gp"


class TestCmaes(SamplerContract):
    sampler = "cmaes"


class TestRandom(SamplerContract):
    sampler = "random"
    learns = False


class TestGrid(SamplerContract):
    sampler = "grid"
    learns = False


def test_every_sampler_has_its_suite():
    assert {suite.sampler for suite in SamplerContract.__subclasses__()} == samplers().keys()
