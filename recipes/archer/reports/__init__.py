"""What people look at: the terminal during a run, curves, the page of a run, comparisons, samples.

Whatever a run folder holds is data of a stranger here; a report never changes a run. Begin with ``content.py``.
"""
