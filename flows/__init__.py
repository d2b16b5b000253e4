"""Dataflows that run: `python -m bytewax.run flows.NAME:flow`."""
