"""Exercises and lessons in running labs: start, judge, play, solve; and what each learner has reached."""
