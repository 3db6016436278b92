"""A home AI hub in which a request is a nursery."""

from typing import Final

__version__: Final = "0.1.0"
