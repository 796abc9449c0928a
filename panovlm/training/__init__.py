"""Recipes, the stages' models, and the trainer."""
