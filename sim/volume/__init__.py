"""The communication-volume laboratory: what a setting costs, by formula and by measurement.

sizes, adapters -> setting -> systems (scalars, weights) -> table
                              papers -------------------->
frames -> timeline -> timers -> prediction -> comparison <- measured
"""
