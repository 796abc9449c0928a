"""Questions and listings about panoramas, written from annotations, with exact answers."""
