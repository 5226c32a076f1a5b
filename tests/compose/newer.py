"""The next version of difuso, as the tests of upgrades have it: its sampler `unipc` is new. It runs like difuso."""

from difuso.__main__ import main
from difuso.jobs import understanding

understanding.CONTRACT = 5
understanding.SINCE = {"sampler unipc": 5}

if __name__ == "__main__":
    main()
