"""Python instead of the command line: a script, and the notebook of the documentation, launch a study and read it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import LONG, TRAIN

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
# Called what the notebook launches: a file of that name goes before the study that ships.
STUDY = f"""
name = "quickstart"
[train]
{TRAIN}
schedule = "[lr, 0] lin[0.1*lr, 3]"
[space]
lr = {{ low = 4e-3, high = 6e-3 }}
weight_decay = {{ choices = [0.0, 0.1] }}
shift = {{ choices = [0.0, 0.1] }}
[objective]
target = 0.15
[search]
trials = 2
"""
SCRIPT = """
from concurrent.futures import ThreadPoolExecutor

import sweeps

if __name__ == "__main__":
    print(sweeps.launch("quickstart", trials=1).value)
    with ThreadPoolExecutor(1) as pool:  # only the main thread may listen to signals
        print(pool.submit(sweeps.resume, "quickstart", more=1).result().value)
    print(sweeps.load_results("quickstart").trials["outcome"].count())
"""
# As a kernel runs cells: in one namespace, the value of a cell's last line shown.
CELLS = """
import json, sys

names, shown = {}, []
if __name__ == "__main__":
    for cell in json.load(sys.stdin):
        *lines, last = cell.splitlines()
        exec("\\n".join(lines), names)
        try:
            shown.append(type(eval(last, names)).__name__)
        except SyntaxError:
            exec(last, names)
            shown.append(None)
    print(json.dumps({"shown": shown, "trials": len(names["table"]), "study": names["study"].name}))
"""


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def python(tmp_path_factory, cluster):
    """Run Python in a folder with the study file, its trials on the cluster; return what it prints on stdout."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "quickstart").write_text(STUDY)

    def run(text: str, stdin: str = "") -> str:
        (folder / "script.py").write_text(text)
        env = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "script.py"],
            cwd=folder,
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_script_launches_a_study_makes_it_longer_and_reads_it(python):
    assert python(SCRIPT).split() == ["finished", "finished", "2"]


@pytest.fixture(scope="module")
def ran(python):
    """What the notebook showed."""
    code = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    return json.loads(python(CELLS, json.dumps(code)).splitlines()[-1])


def test_the_notebook_launches_its_study_and_reads_it(ran):
    assert (ran["study"], ran["trials"]) == ("quickstart", 4)


def test_the_notebook_shows_tables_and_draws_figures(ran):
    assert (ran["shown"][0], ran["shown"].count("Figure")) == ("DataFrame", 2)


def test_the_notebook_is_kept_without_outputs():
    assert not any(cell.get("outputs") for cell in cells())
