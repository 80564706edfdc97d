"""What is measured, and against whom: side by side in one run, as ratios."""
