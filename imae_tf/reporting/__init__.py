"""Makes what people look at: the page of a run, plots, and the files of TensorBoard."""
