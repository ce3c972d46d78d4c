"""Chooses mappings; does not price them."""
