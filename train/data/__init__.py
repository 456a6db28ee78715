"""What training reads: sources of clips, and the cache of their latents."""
