"""The notebook of the documentation runs on a store, from its first cell to its last."""

import json
from pathlib import Path

import matplotlib.figure
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def code() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def ran(store, tmp_path_factory):
    """What the cells left behind, and what each of them shows."""
    launch = store.launch("notebook", description="Which rate?")
    store.trial(launch, 0, [0.5, 0.93, 0.94], "reached", weight_decay=0.1)
    store.trial(launch, 1, [0.5, 0.6, 0.7], "exhausted", weight_decay=0.2)
    names: dict = {}
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPS_HOME", str(store.path.parent))
        patch.setenv("STUDY", "notebook")
        for cell in code():
            *lines, last = cell.splitlines()
            exec("\n".join(lines), names)
            try:
                shown.append(eval(last, names))  # noqa: S307  our own file
            except SyntaxError:
                exec(last, names)
    return names, shown


def test_it_loads_a_study(ran):
    assert ran[0]["study"].name == "notebook"


def test_its_table_is_fastest_first(ran):
    assert ran[0]["table"]["epochs_to_target"].tolist()[0] == 2


def test_it_draws(ran):
    assert sum(isinstance(value, matplotlib.figure.Figure) for value in ran[1]) == 2


def test_it_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
