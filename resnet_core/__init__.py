"""Training of residual networks on CIFAR-10 and digits: torch and torchvision only.

``load_model`` reads a network that a study has kept; it loads torch when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
