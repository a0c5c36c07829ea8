"""Writes the package of a new plugin or task; the `.template` files are what it is made of."""
