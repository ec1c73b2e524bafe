"""The public names, and the module from which each is imported when it is first used."""

from .kept import KeptNetwork as KeptNetwork
from .kept import load_model as load_model
from .network_file import NetworkFileError as NetworkFileError
