"""What the self-contained HTML pages share: their look, their drawings, their pictures."""
