"""Tests with root of the folder scripts/."""
