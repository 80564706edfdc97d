"""Processes: Ray from start to end, signals, output that may fail, keys, and the reaper that outlives a run.

Knows nothing of training. Begin with ``ray_session.py``.
"""
