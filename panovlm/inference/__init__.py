"""Answering: a panorama is opened once, then asked any number of questions."""
