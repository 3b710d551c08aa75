"""A run's folder: shards, manifests, work sharing, copies at a URL, the machine it was made on."""
