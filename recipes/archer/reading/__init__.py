"""Reading files that may be a stranger's: regular files only, bounded in size, in depth and in what a number is.

The one reader of JSON, of YAML and of TOML. What is wrong with a file is an ``UnreadableError`` that names the file and
the place, never another exception; nothing of what is read is run. Begin with ``regular.py``.
"""
