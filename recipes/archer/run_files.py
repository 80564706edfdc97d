"""Names of a run folder's files, for who writes them and for who reads them."""

METRICS, CONFIG, RUN = "metrics.jsonl", "config.yaml", "run.json"
