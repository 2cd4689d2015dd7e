"""`kseed figure`: figures of the papers and of our design, each made again by one command.

A figure is a report first, a dictionary that JSON holds without loss; words, CSV and the picture
are made of the report alone. So a report that was kept can be drawn again, to the same bytes.

- `latest-model`: FedKSeed's Figures 1(b) and 4, the time to obtain the latest model, measured.
- `break-even`: the bytes of a round's histories against those of sums up and down one tree.
"""
