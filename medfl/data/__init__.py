"""Volume to batch: manifests, import, checks, partitions, phantoms and public sets."""
