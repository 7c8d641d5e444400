"""The stable module that models import, also those of other packages."""
