"""Training: one loop for every method, exact to resume, the same on any number of workers."""
