"""Merging adapters into their base, and exporting folders that load anywhere."""
