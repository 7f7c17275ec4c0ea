"""The command line. ``main`` is the entry point; each group of commands is a module, loaded with its imports lazy."""

from ragpool.cli.app import main

__all__ = ["main"]
