"""Comparing network models: the same questions to each lab, answered by packets and by the kernel's own state.

`cast` says who is asked, `ask` (wet) asks, `facts` holds what was learned, `place`, `seen` and `cost` turn facts into
the words of a table's cells, `rows` is the list of questions, and `run` (wet) builds each lab and removes it again.
Nothing here knows a model: pods, nodes and the rest are found by their roles.
"""
