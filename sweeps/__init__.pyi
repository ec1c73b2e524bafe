"""The public names, and the module from which each is imported when it is first used."""

from .api import ConfigError as ConfigError
from .api import DatasetSpec as DatasetSpec
from .api import EpochRecord as EpochRecord
from .api import Outcome as Outcome
from .api import Run as Run
from .api import Schedule as Schedule
from .api import StudySpec as StudySpec
from .api import TrialConfig as TrialConfig
from .api import launch as launch
from .api import load_results as load_results
from .api import load_study as load_study
from .api import parse_schedule as parse_schedule
from .api import resume as resume
from .errors import InputError as InputError
from .errors import SweepError as SweepError
from .execution.launch import LaunchStatus as LaunchStatus
from .study.stopping.base import Curve as Curve
from .study.stopping.base import Progress as Progress
from .study.stopping.base import StoppingRule as StoppingRule
from .study.stopping.base import StudyState as StudyState
