"""Every stopping rule that ships keeps to the contract. A new rule gets a class here that says what it ends."""

from resnet_core.records import Outcome
from search_spaces.plugins import rules
from sweeps.study.stopping.asha import Asha
from sweeps.study.stopping.at_target import AtTarget
from sweeps.study.stopping.base import Curve, Progress, StudyState
from sweeps.study.stopping.cannot_reach import CannotReach
from sweeps.study.stopping.cap import Cap
from sweeps.study.stopping.diverged import Diverged
from sweeps.study.stopping.forecast import Forecast
from sweeps.study.stopping.median import Median
from sweeps.study.stopping.patience import Patience
from sweeps.testing.stopping_rules import CONFIG, EMPTY, GOOD, StoppingRuleContract, state, trial


class TestCap(StoppingRuleContract):
    rule = Cap(best=2, slack=1.2)
    ended = trial([0.91] * 24), StudyState(0.92, 2, [17, 20, 22])


class TestCapPerGroup(StoppingRuleContract):
    rule = Cap(best=2, slack=1.2, per="model")
    ended = trial([0.91] * 25), state(*GOOD)


class TestCannotReach(StoppingRuleContract):
    rule = CannotReach(after=0.3, trials=10, margin=0.02)
    ended = trial([0.77] * 9), state(*GOOD)
    after = 0.3


class TestAsha(StoppingRuleContract):
    rule = Asha(reduction=3, after=0.25)
    ended = trial([0.7] * 8), state(*GOOD)
    after = 0.25


class TestMedian(StoppingRuleContract):
    rule = Median(after=0.3, trials=5)
    ended = trial([0.7] * 9), state(*GOOD)
    after = 0.3


class TestPatience(StoppingRuleContract):
    rule = Patience(epochs=4, min_delta=0.01)
    ended = trial([0.5, 0.6, 0.7, 0.705, 0.7, 0.709, 0.2]), EMPTY
    absolute = True


class TestForecast(StoppingRuleContract):
    rule = Forecast(chance=0.1, best=2, trials=10)
    # Trials are the slower the further to the right they lie; it looks at no epoch but whether there is one.
    ended = (
        Progress(CONFIG, trial([0.5]).records, None, (1.0,)),
        state(*(Curve([0.8] * (9 + i) + [0.95], 30, Outcome.REACHED, None, (i / 19,)) for i in range(20))),
    )


class TestDiverged(StoppingRuleContract):
    rule = Diverged()
    ended = trial([0.1] * 5, [0.1] * 5), EMPTY
    absolute = True
    accuracy_only = True


class TestAtTarget(StoppingRuleContract):
    rule = AtTarget()
    ended = trial([0.5, 0.93, 0.91, 0.92, 0.95]), EMPTY
    absolute = True


def test_every_rule_has_its_suite():
    assert {type(suite.rule) for suite in StoppingRuleContract.__subclasses__()} == set(rules().values())
