"""Comparing network models: the same questions to each lab, answered by packets and by the kernel's own state.

`roles` chooses the machines that take part, `probes` defines the questions that packets answer, `measure` asks them on
a live lab, and `measurements` holds the answers. `placement`, `visibility` and `cost` turn these into the texts of the
table's cells, and `table` has the list of questions. `run` builds each lab and removes it again. No module here depends
on a model: pods, nodes and the other machines are found by their roles.
"""
