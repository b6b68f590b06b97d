"""A certified run on the Hugging Face Hub."""
