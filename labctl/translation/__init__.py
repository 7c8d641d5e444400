"""Sentences in the user's language: the catalogues of gettext, and which of them is in use."""
