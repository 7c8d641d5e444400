"""The scenario language: from YAML text to a compiled lab, every mistake with its position."""
