"""One module for each verb; its `COMMAND` is the click command."""
