"""Networks, sources of images and losses of the operator's own packages, which configs and recipes name."""
