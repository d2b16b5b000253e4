"""Laws are tried on busy machines too: no example has a deadline, and none leaves a file."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("engine", deadline=None, database=None, max_examples=60)
settings.load_profile("engine")
