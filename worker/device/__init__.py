"""How a network is called on this machine: on which cores, compiled, as CUDA graphs."""
