"""Stage 1 alone: pairs of overlapping tokens, VICReg and the model around them."""
