"""The orchestrator: Ray Tune places trials, Optuna proposes and stores them, MLflow records them.

>>> import analysis, sweeps
>>> sweeps.launch("quickstart", trials=4)  # doctest: +SKIP
>>> analysis.build_table(sweeps.load_results("quickstart"))  # doctest: +SKIP

The names in ``__init__.pyi`` and those of `analysis` are public; any other name may change. The module of a name is
imported when the name is first used, because Ray, Optuna, MLflow, torch and pandas take seconds to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
