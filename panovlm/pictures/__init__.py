"""Opening a picture and knowing what it shows."""
