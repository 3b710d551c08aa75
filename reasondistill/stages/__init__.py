"""The seven stages. They never import each other; they share records on disk."""
