"""Values of type images: filled in by the next commits."""
