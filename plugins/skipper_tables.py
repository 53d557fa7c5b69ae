"""Values of type tables: filled in by the next commits."""
