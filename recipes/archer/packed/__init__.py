"""A model's layers over tokens that lie one behind the other, without padding, on a CPU.

Never a process group or a configuration: tensors and modules in, tensors out.  Begin with ``model.py``.
"""
