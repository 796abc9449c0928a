"""Scores of answers: pure functions of texts and angles, without any model."""
