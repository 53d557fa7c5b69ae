"""Values of type arrays: filled in by the next commits."""
