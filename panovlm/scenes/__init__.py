"""Rendered panoramas with exactly known content: scenes, their pictures, questions about them."""
