"""What crosses between callers and functions: bytes, their media type, and where they lie."""
