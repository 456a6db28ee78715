"""Files: read within bounds, written all or nothing, locked while they are written, sealed by checksums."""
