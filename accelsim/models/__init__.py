"""Prices a mapping on an architecture; chooses nothing."""
