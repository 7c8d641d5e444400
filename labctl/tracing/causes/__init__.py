"""Causes of a loss: one pure function for each, from the evidence to a sentence."""
