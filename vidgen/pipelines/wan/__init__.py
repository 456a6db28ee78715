"""Wan: configurations, key maps, adapters to diffusers' classes, and the native transformer."""
