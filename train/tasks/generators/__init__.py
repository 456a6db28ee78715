"""Tasks on what makes clips without a denoiser: priors over tokens, codes of changes, generators in one pass."""
