"""What the other packages build on: atomic files, processes, arithmetic, progress, memory."""
