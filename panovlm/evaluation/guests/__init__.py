"""Other people's models: how they are shown panoramas, and how they are asked."""
