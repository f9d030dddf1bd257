"""How far the logits of one packed model are apart in different engines."""
