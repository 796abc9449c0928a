"""Converting pictures of the sphere: panoramas, cube maps and views, one file or whole folders."""
