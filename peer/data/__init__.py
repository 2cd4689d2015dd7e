"""From instruction data to batches: rows, template, token ids, shards, and the order of rows.

rows.load_rows -> encode.encode -> division.divide -> order.rows_for -> encode.batch
"""
