"""Records, patch-token cache, packing and datasets: what a stage trains on."""
