"""Prompt files, their rows as tensors, and the order in which a run takes them.

Answers are not judged here. Begin with ``file.py``.
"""
