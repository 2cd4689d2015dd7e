"""The communication-volume laboratory: what a setting costs, by formula and by measurement."""
