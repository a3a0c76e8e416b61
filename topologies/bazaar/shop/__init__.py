"""The shop: what it sells at which prices, and the page that shows it."""
