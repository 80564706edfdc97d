"""The `archer` commands, one module each; recipes.archer.cli registers them."""
