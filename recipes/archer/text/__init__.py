"""What the words of a response say: families of words, repetition.

Nothing here knows whether an answer is right. Begin with ``metrics.py``.
"""
