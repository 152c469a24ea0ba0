"""The benchmark: this project and its peers, measured side by side in one run.

`scripts/bench` runs it. What runs inside a peer's own environment (`launch`, `plan`, `board`,
`jobs` and `peers`) imports the standard library and that peer alone.
"""
