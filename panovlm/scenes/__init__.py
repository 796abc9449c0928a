"""Drawn panoramas with exactly known content: the world, its looks, what can be said of it."""
