"""What a formula means, and whether two are one: LaTeX to tokens to values, compared exactly where they are rational.

Nothing here evaluates text, and effort is bounded by the size of what is read. Begin with ``reading.py``.
"""
