"""Jobs for RunAI and Kubernetes from an experiment and a site's settings.

Builds what is submitted, and never holds a secret's value. Begin with ``job.py``.
"""
