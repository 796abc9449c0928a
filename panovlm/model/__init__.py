"""The model and its processors: all that a checkpoint needs to run."""
