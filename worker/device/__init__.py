"""How this machine calls a network: on which cores, in which number format, as CUDA graphs."""
