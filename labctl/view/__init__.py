"""The page of a running lab in a browser (`labctl view`): a server on 127.0.0.1, and the events that it sends.

The server (`server`) only answers HTTP. What touches the lab runs in child processes (`worker`), one for verbs, one for
reading and one for a capture, so that a verb can be interrupted as ^C interrupts it on the command line. `documents`
and `steps` are pure. Only `server` and `run` need the extra `labctl[view]`.
"""
