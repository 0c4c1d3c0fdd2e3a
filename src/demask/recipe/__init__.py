"""What a recipe may say: its file, its sections, its errors."""
