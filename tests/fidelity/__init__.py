"""Comparison of labs with what real programs build."""
