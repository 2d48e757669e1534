"""Methods compared: the plan of the runs, and the page of what they found."""
