"""Who is let in: everything that a request's head decides, before its body is read."""
