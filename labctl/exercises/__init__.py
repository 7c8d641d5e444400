"""Exercises: what an answer or a repaired lab is worth, judged from evidence; points and progress. No I/O."""
