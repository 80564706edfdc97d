"""Between the command line and the first step: what can be found wrong, found before Ray starts, and the inputs.

Nothing here runs during a step. Begin with ``preflight.py``.
"""
