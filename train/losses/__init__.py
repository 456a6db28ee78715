"""What a decoder is trained by: errors of pixels and of features, and discriminators with the game against them."""
