"""The `archer` command, one module a verb: arguments in, what the rooms below find out, printed.

Nothing is computed here that a program could want. Begin with ``cli.py``, which lists the verbs.
"""
