"""Conditioning on frames and pictures: frame conditioning, inpainting, degradations, IP-Adapter."""
