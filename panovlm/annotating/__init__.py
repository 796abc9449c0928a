"""Annotating: teachers say what is in undescribed panoramas and where on the sphere."""
