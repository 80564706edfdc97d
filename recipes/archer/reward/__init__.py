"""From graded texts to rewards, and from groups of rewards to those that carry a signal.

How an answer is judged is grading's affair. Begin with ``manager.py``.
"""
