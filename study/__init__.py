"""How a trial runs: configuration → packs → train loop with GSC probes → records → MLflow."""
