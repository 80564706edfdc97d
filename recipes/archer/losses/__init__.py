"""Pure functions: tensors in, loss and sums of figures out.

No configuration is looked up, no process group asked, nothing stored. Begin with ``objective.py``.
"""
