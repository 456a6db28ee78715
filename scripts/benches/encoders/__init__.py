"""`vidgen bench encoder` and `ssl`: what fewer tokens cost, how far their features are from all, what hiding saves."""
