#!/usr/bin/env bash
# Secrets in the environment and a place for artifacts → MLflow's server on loopback, until it is stopped.
#
# It needs MLFLOW_BACKEND_STORE_URI, MLFLOW_AUTH_CONFIG_PATH and MLFLOW_FLASK_SERVER_SECRET_KEY. Artifacts pass through
# it (--serve-artifacts), so that nobody but this process needs access to the bucket; for a store that is not AWS's, set
# MLFLOW_S3_ENDPOINT_URL and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY as well.
set -euo pipefail

artifacts=${1:?give s3://BUCKET/PATH or a folder for artifacts}
port=${2:-5000}
: "${MLFLOW_BACKEND_STORE_URI:?set it, as in postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE}"
: "${MLFLOW_AUTH_CONFIG_PATH:?set it to the .ini file of MLflow basic authentication}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?set it to random text}"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

# The store's address is in the environment, not on the command line, where every user of the machine could read it.
exec mlflow server --host 127.0.0.1 --port "$port" --workers 1 --app-name basic-auth \
    --serve-artifacts --artifacts-destination "$artifacts"
