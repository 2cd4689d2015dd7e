"""The commands of `kseed`, one file for those of one subject; each adds its own parser."""
