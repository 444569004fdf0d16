"""Publishing to a bucket and by other processes, measured."""
