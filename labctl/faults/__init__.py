"""The catalogue of faults: what can be wrong in a lab, as functions over its plan, with the cause of each. No I/O.

A fault says in a sentence what it is, to which objects of a plan it applies, what it changes, which packets it hits,
and which cause a perfect trace names. `labctl break` and `break:` in a scenario file use it, and
`scripts/trace-accuracy` tries `labctl trace` against all of it. `labctl.lab.break_fix` changes the kernel.

A module holds the kinds of one subject, in its tuple `KINDS`. `catalogue` collects them and finds faults by name;
`lab_objects` finds the objects and the traffic of a lab.
"""
