#!/usr/bin/env bash
# An NFS export (EFS, or a server of one's own), as HOST:PATH → /shared, the folder where studies keep their records.
set -euo pipefail

export_path=${1:?give HOST:PATH of the NFS export}
sudo mkdir -p /shared
# hard: a server that is away makes writers wait, and nothing is lost.
mountpoint --quiet /shared ||
    sudo mount -t nfs4 -o nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2 "$export_path" /shared
sudo install -d -m 0750 -o "$(id -un)" -g "$(id -gn)" /shared/studies /shared/data /shared/reports
