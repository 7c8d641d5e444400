"""Lessons: the steps of one as a state machine, what each says, and whether what was seen is as it says. No I/O."""
