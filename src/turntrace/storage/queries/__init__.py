"""The read side: functions of a Core connection that answer records. Nothing here writes.

Lists are keyset-paginated and never touch content tables; sums come from the roll-ups (append-only deltas, so every
read sums), percentiles from their histogram rows.
"""
