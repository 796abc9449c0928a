"""What the other packages build on: atomic files, processes, precision, progress, memory."""
