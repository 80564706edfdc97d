"""A response and a ground truth to a grade, in processes that are killed at their deadline.

Nothing of a response is ever executed, and one bad row never touches another. Begin with ``grader.py``.
"""
