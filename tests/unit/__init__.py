"""Tests without root and without a kernel, by package of labctl."""
