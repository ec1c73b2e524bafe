"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101): Adam with decoupled decay.

Every optimizer here has decoupled decay, so that AdamW and Adam are the same.
"""

from __future__ import annotations

from resnet_core.optim.adam import Adam

OPTIMIZER = Adam
