"""What makes runs like V0 to V5 sick, and what cures them, on the embedded job: cells, runs, figures, a page.

Begin with ``cells``. Runs are made one by one and remembered in benchmarks/results/study.jsonl, so that the command
goes on where it was interrupted, on any machine.
"""
