"""Places, boxes and whole panoramas: from views back to the sphere, and about on it."""
