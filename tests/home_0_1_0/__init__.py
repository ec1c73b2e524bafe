"""A home folder that version 0.1.0 wrote: a study that ended, and one that was killed at its eighth epoch.

The databases are kept as SQL; `old.csv` is what `sweeps table old --format csv` printed. In the checkpoint of the
killed study's first trial every weight is zero: so it compresses to 10 kB.
"""

import contextlib
import gzip
import sqlite3
from pathlib import Path

HERE = Path(__file__).parent
ENDED, KILLED = "old", "old-runs"
TABLE = HERE / "old.csv"


def restore(home: Path) -> Path:
    """Write the home folder and return it."""
    for database in ("mlflow", "optuna"):
        with contextlib.closing(sqlite3.connect(home / f"{database}.db")) as connection:
            connection.executescript(gzip.decompress((HERE / f"{database}.sql.gz").read_bytes()).decode())
    study = home / "studies" / KILLED
    (study / "checkpoints").mkdir(parents=True)
    (study / "checkpoints" / "00000.pt").write_bytes(gzip.decompress((HERE / "00000.pt.gz").read_bytes()))
    (study / "driver").write_text("host-ee7566")
    return home
