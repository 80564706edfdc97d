"""The engine, vLLM through verl: seeds, sampling, stopping.

What a response is worth is not known here. Begin with ``engine.py``.
"""
