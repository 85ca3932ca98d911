"""Images and volumes of others, as `synthdp predict` finds and reads them."""
