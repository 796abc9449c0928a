"""What every wing stands on: files written whole, processes, precision, progress, memory."""
