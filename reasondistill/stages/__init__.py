"""The seven stages, each alone: they meet on disk, in records."""
