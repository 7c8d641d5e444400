"""Why the objects of a lab exist: sentences, what makes them on a real machine, what breaks without them. No I/O."""
