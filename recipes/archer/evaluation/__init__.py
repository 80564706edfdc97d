"""How good is a model, and with how much certainty: questions, responses on disk, estimators, comparisons.

Nothing is learned here, and no run folder is looked for. Begin with ``course.py``; the statistics are ``scores.py``.
"""
