"""The networks, in one file each. Their configs are in `configs`, which needs no torch."""
