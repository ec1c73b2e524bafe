"""From MLflow's store to tables, plots and reports.

>>> import analysis
>>> study = analysis.load("runs/mlflow.db", "adamw-cosine")  # doctest: +SKIP

The names are in ``__init__.pyi``. Each loads its module when it is first used, so that ``import analysis`` does not
import pandas.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
