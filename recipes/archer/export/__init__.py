"""A checkpoint as a model that others load: a Hugging Face folder, proven to hold what the checkpoint holds.

No GPU, no process group and no engine is needed here, and none is started. Begin with ``folder.py``.
"""
