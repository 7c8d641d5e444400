"""Answers as text, tables, JSON, JUnit and pcapng; the only package that prints."""
