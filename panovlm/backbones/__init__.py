"""Backbones that need no model hub: weights from Python packages."""
