"""Whole states on disk, or none: shards, manifest, pointers, room, and whom a state belongs to.

When to save is the trainer's affair. Begin with ``store.py``.
"""
