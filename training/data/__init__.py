"""Training images: where they come from, in which order, and what chance does to them."""
