"""What people look at: the page of a run, plots, pictures for TensorBoard's files."""
