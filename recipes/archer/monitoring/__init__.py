"""Is the run healthy: an experiment's criteria and general detectors, row by row, to a verdict.

Reads rows and nothing else, so that a running job and an old file are judged alike. Begin with ``monitor.py``.
"""
