"""What a tokenizer loses and what its tokens cost: metrics, protocols, rate against distortion."""
