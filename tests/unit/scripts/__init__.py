"""Tests without root of the folder scripts/."""
