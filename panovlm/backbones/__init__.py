"""Backbones that need no model hub: packaged weights, and a small LM of the scenes' language."""
