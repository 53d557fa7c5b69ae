"""What the processes of one tree say to each other, and the links over which they do."""
