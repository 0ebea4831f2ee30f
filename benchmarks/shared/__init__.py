"""Code that several programs of this folder share."""
