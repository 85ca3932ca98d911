"""Small heads on cached features, trained with and without privacy."""
