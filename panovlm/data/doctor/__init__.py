"""Examining data sets before training: records, pictures, copies, leaks and lengths."""
