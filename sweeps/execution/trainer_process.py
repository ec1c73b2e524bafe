"""What a process that trains imports ahead of its first trial, while the databases of the study are opened."""

from sweeps.execution import worker

worker.import_torch()

from sweeps.execution import trainable as trainable  # noqa: E402
