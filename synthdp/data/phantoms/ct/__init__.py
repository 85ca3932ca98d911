"""CT volumes of the upper abdomen that are drawn, half of them with a lesion of the pancreas."""
