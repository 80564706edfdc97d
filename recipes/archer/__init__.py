"""The Archer recipe: everything that is ours, plugged into verl from outside."""
