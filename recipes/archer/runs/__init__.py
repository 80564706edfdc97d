"""Run folders: what a run writes, how it is read again, and the trackers beside it.

What a figure means is not known here. Begin with ``log.py`` to write, with ``folder.py`` to read.
"""
