"""What difuso writes into its PNGs, for all that write and read them; it needs no torch."""

PNG_KEY = "difuso"  # of the iTXt chunk with JSON: how an image, a sheet of a job, or the samples of a model were drawn
