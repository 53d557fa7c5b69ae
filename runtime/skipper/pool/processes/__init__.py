"""The processes of a pool: instances, what starts them, what they print."""
