"""What an author writes: the decorators and their options, signatures, models, the run."""
