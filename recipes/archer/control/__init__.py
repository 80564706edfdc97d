"""What steers a run while it goes on.

Decides by a step's row, and never trains. Begin with ``rules.py``.
"""
