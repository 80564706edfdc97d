"""The configuration, and what can be wrong with it whatever the machine and the data; model folders.

Composing it imports neither torch nor Ray nor verl. Begin with ``configuration.py``; of every setting
``checks.py`` knows who reads it, and which values make sense.
"""
