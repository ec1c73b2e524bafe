"""The orchestrator: Ray Tune places trials, Optuna proposes and remembers them, MLflow is written to.

>>> import analysis, sweeps
>>> sweeps.launch("quickstart", trials=4)  # doctest: +SKIP
>>> analysis.build_table(sweeps.load_results("quickstart"))  # doctest: +SKIP

The names of ``__init__.pyi`` are public, and so are those of `analysis`; any other name may change. A name loads its
module when it is first used: Ray, Optuna, MLflow, torch and pandas take seconds to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
