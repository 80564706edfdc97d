"""What steers a run while it goes on.

Decides by a step's row, and never trains. ``rules.py`` ends a run, ``entropy.py`` holds its entropy in a band.
"""
