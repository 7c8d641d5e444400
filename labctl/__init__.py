"""labctl builds container networks out of real kernel objects and proves every claim with packets."""

__version__ = "0.1.0"
