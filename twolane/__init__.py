"""twolane: ``async def`` waits, ``def`` computes.

The contract that producers and workers share. ``from twolane import job`` is all that a module of
jobs needs; it loads neither a client library nor an event loop.
"""

from twolane.registry import job

__all__ = ["job"]
__version__ = "0.1.0"
