"""How this machine calls a network: on which cores, compiled, as CUDA graphs."""
