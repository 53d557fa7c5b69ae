"""The process that speaks REST. It never imports user code, and never parses a function's body."""
