"""How the shop is configured and administered."""
