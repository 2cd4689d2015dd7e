"""`kseed compare`: several methods on one setting, several seeds each, as one table and one figure.

definition -> runs, each in a process and a folder of its own -> summaries -> table, words, figure
"""
