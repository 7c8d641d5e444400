"""Exercises in running labs: start, judge, hint, reset, solve; and what each learner has reached."""
