"""Networks and functions of the operator's own packages, which configs and recipes name."""
