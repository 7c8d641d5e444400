"""The board of a class: what each learner has reached, read from the records of one machine or of many. No I/O."""
