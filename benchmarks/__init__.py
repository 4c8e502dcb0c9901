"""What greenroom costs, next to its peers, measured in one run: `make bench`, or `-m benchmarks`.

`groups/` holds the cases, a file for each group; `peers/` what is measured, a file for each peer;
`harness.py` runs them in processes of their own; `report.py` says what came out.
"""
