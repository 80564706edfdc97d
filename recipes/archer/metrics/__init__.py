"""The figures of a step, over everything that it generated, and the row that they make.

None where there is no value, never left out. Begin with ``batch.py``.
"""
