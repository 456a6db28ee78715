"""Features of video: the extractor, banks of features, and what is done with them."""
