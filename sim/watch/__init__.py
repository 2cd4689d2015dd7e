"""Watching peers that run: each is asked for its status, and the network is drawn from the answers.

asking -> network (who has said what, and who is silent) -> picture -> drawing, or plain words.
"""
