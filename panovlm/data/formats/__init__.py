"""Formats of data sets: records, LLaVA, ShareGPT, tables and the library `datasets`."""
