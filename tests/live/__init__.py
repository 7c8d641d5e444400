"""Tests with root and real namespaces, by package of labctl."""
