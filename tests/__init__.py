"""The tests of labctl; README.md says how they are arranged and run."""
