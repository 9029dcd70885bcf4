#!/usr/bin/env bash
# A place for artifacts (s3://BUCKET/PATH or a folder) → PostgreSQL and MLflow on this machine's loopback, with a password.
#
# Passwords are made here, once, and lie in ~/.mlflow (readable by this user alone). The study finds them there by
# itself: MLflow's clients read ~/.mlflow/credentials. `docs/cluster.md` says how to look the password up.
set -euo pipefail

artifacts=${1:?give s3://BUCKET/PATH or a folder for artifacts}
project=~/depth-trainability
environment=~/environment
secrets=~/.mlflow

export DEBIAN_FRONTEND=noninteractive
sudo apt-get -o DPkg::Lock::Timeout=600 install --quiet --yes openssl postgresql
"$environment/bin/pip" install --quiet --constraint "$project/constraints.txt" boto3 "mlflow[auth]" psycopg2-binary

umask 077
mkdir -p "$secrets"
if [ ! -s "$secrets/server.env" ]; then
    database_password=$(openssl rand -hex 24)
    admin_password=$(openssl rand -hex 24)
    # Through standard input: what stands on a command line can be read by every user of the machine.
    sudo -u postgres psql --quiet --set ON_ERROR_STOP=1 <<SQL
CREATE ROLE mlflow LOGIN PASSWORD '$database_password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
SQL
    printf '[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = %s\n' "$admin_password" \
        > "$secrets/credentials"
    printf '%s\n' \
        '[mlflow]' \
        'default_permission = NO_PERMISSIONS' \
        "database_uri = postgresql+psycopg2://mlflow:$database_password@127.0.0.1/mlflow_auth" \
        'admin_username = admin' \
        "admin_password = $admin_password" \
        > "$secrets/auth.ini"
    # Last: this file says that everything above is there.
    printf '%s\n' \
        "MLFLOW_BACKEND_STORE_URI=postgresql+psycopg2://mlflow:$database_password@127.0.0.1/mlflow" \
        "MLFLOW_AUTH_CONFIG_PATH=$secrets/auth.ini" \
        "MLFLOW_AUTH_ADMIN_PASSWORD=$admin_password" \
        "MLFLOW_FLASK_SERVER_SECRET_KEY=$(openssl rand -hex 24)" \
        > "$secrets/server.env"
fi

sudo tee /etc/systemd/system/mlflow.service > /dev/null <<UNIT
[Unit]
Description=MLflow tracking server of depth-trainability
After=network-online.target postgresql.service

[Service]
User=$(id -un)
EnvironmentFile=$secrets/server.env
ExecStart=/usr/bin/env PATH=$environment/bin:/usr/bin:/bin bash $project/cluster/tracking_server.sh $artifacts
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
sudo systemctl daemon-reload
sudo systemctl enable --quiet mlflow
sudo systemctl restart mlflow
