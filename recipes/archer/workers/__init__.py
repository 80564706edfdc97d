"""What runs on the devices: the FSDP worker, the actor's update and its forward pass; and the driver's calls to them.

No file is written but a checkpoint's part, and no word of a response is read. Begin with ``worker.py``.
"""
