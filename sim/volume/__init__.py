"""The communication-volume laboratory: what each system sends and computes, predicted and measured.

Cost models are in `systems`, one formula a system, each with its source; `papers` holds them
against what the papers print.
"""
