"""How this machine calls a network: on which cores, and in which number format."""
