"""Many runs looking for one: what is searched, which settings come next, who runs them, and what came of it.

No run is trained or judged here: each is a launcher's, with a guard of its own. Begin with ``driver.py``.
"""
