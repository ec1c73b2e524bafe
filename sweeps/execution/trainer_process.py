"""What a process that trains imports ahead of its first trial, while the databases of the study are opened."""

from sweeps.execution import trainable as trainable
from sweeps.execution.worker import import_torch

import_torch()
