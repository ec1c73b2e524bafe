"""The kinds of store that can be read, one module each. A new module in this folder is registered automatically.

Backends are cheap to import: each imports its database driver, or MLflow, when a store is opened.
"""

from __future__ import annotations

import importlib
import pkgutil

from analysis.store.reader import Backend

BACKENDS: dict[str, Backend] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").BACKEND
    for module in pkgutil.iter_modules(__path__)
}
"""The backends, by the name of their module."""
