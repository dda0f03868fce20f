"""`elsa bench`: the engine `cpu` beside what a user would run instead, in one interleaved run.

cases.py: what is computed. peers.py and ours.py: who computes it. truth.py: whether the result is
right. measure.py: how long it takes. run.py puts them together, report.py and plot.py show it.
"""
