"""Fairlead: a container network engine for Linux that shows what it does."""

__version__ = "0.1.0"
