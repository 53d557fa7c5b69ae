"""How a task comes to be and becomes known: accepted, published, watched, shown to others."""
