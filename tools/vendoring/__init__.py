"""What tools/vendor_verl.py is made of: manifest, wheel, tree, sync and the upgrade report."""
