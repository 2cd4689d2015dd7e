"""The communication-volume laboratory: what a setting costs, by formula and by measurement.

sends: how often an entry is sent; frames: how long the frames are

tree_sum -> setting -> costs -> scalars, weights -> systems -> table
                                          printed -> papers -->
frames -> timeline -> timers, calm -> prediction -> comparison <- measured
                 copies, rehearsal -> averages -->
walk_kernels -> walks, loads -> spread -> scale, calm -> overview <- systems
"""
