"""Seconds a training step, against TRL."""
