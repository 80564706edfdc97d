"""Runs in words, tables and pictures: what `archer runs`, `compare`, `report` and `samples` show."""
