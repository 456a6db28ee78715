"""`vidgen tokenizer ...`: one file a verb."""
