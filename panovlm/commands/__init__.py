"""The commands of `panovlm`: functions with typed options; help comes from docstrings.

Heavy imports stand inside them, so that `panovlm --help` answers at once.
"""
