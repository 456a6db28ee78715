"""`vidgen bench encoder`: what fewer tokens cost, and how far features are from those of all tokens."""
