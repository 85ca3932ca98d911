"""Tables, made into one HTML file."""
