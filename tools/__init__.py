"""Commands that prepare and check the checkout; each file here is run as a script."""
