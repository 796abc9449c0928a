"""Models as they leave: adapters merged into their base, folders that load anywhere."""
