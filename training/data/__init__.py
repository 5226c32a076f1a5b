"""Training images: their sources, their order, and their random changes."""
