"""Records: why a run is made, what to watch, what to try next, what came of it; and the files made from them.

Nothing here trains or judges. Begin with ``registry.py``.
"""
