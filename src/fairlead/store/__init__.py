"""Where intent lives."""

from fairlead.store.sqlite import Store

__all__ = ["Store"]
