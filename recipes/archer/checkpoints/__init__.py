"""Whole states on disk, or none: shards, manifest, pointers, room, and whom a state belongs to.

When to save is the trainer's affair; what is read is data, whoever wrote it. Begin with ``store.py``.
"""
