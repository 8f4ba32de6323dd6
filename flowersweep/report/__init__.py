"""What a study found, for people: one page that opens anywhere, and one screen of text while it runs."""
