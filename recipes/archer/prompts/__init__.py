"""Prompt files, their rows as tensors under the model's chat template, and the order in which a run takes them.

Answers are not judged here. Begin with ``file.py``.
"""
