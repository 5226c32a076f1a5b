"""The figures of docs/paper.md. Each compares a part of the paper with what difuso makes of it."""

import os

# One of them shows rounding errors. So NumPy's OpenBLAS takes kernels that x86 processors of the last ten years have,
# and not those of this machine's kind. It reads this when it is loaded.
os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
