"""Folders of Hugging Face's diffusers."""
