"""Work on a Ray cluster: local rounds of a simulation, and whole settings and runs as tasks.

`connection` is the only door to Ray, and imports it when it is asked for. `assignments` says who
does what, and is pure; `crew` drives it, `trainer` has it take local rounds, and `worker` is its
far side. `tasks` are calls of one function each; `places` is what has to be the same everywhere.
"""
