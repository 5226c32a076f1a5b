"""The next version of difuso, as the tests of upgrades have it: its sampler `unipc` is new. It runs like difuso."""

from difuso.__main__ import main
from difuso.jobs import understanding

understanding.CONTRACT += 1
understanding.SINCE = {"sampler unipc": understanding.CONTRACT}

if __name__ == "__main__":
    main()
