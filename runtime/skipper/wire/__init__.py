"""What the processes of one tree send each other, and the links over which they do."""
